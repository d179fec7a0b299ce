"""Nothing loads partially: an adapter that does not fit its base whole is an error, whichever loader reads it.

PEFT and transformers ignore unexpected tensors and only warn of missing ones. A vessel adapter without its decoder
still predicts, only badly; so the checks here raise, name the tensors, and leave the network as it was.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from ..adapter_format.errors import AdapterMismatchError
from ..adapter_format.settings import AdapterSettings
from .class_masks import set_rows
from .tile_scaling import TileScaling, travelling_values

_ADAPTER_KEY = re.compile(r"\.(?:lora_[AB]|lora_magnitude_vector|modules_to_save)\.(?P<adapter>[^.]+)\.")


@contextmanager
def unchanged_if_refused(model: nn.Module) -> Iterator[None]:
    """Put a model back as it was, in each module, if loading an adapter into it fails.

    Raises:
        AdapterMismatchError: for PEFT's KeyError: a tensor of a whole trained part is not in the file.
    """
    before = [(vars(module), vars(module).copy()) for module in model.modules()]
    for _, attributes in before.copy():
        before += [(value, value.copy()) for value in attributes.values() if isinstance(value, dict | set | list)]
    learnt = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        yield
    except BaseException as error:
        for container, content in before:
            container.clear()
            (container.extend if isinstance(container, list) else container.update)(content)
        for parameter, requires_grad in learnt:
            parameter.requires_grad_(requires_grad)
        if isinstance(error, KeyError):
            raise AdapterMismatchError(f"the adapter does not fit this base: missing {error.args[0]}") from error
        raise


def check_adapter_keys(network: nn.Module, state_dict: dict, prefix: str, *_) -> None:
    """Check an adapter's tensors, as a `load_state_dict` pre-hook: complete, known and in shape, or not loaded at all.

    An adapter that was just added, and is refused, is taken out again. One that is not brings its settings.

    Raises:
        AdapterMismatchError: naming the fields of the form that differ, or every missing, unexpected or mis-shaped
            tensor.
    """
    if not any(map(_adapter_of, network.state_dict())):
        return
    given = {key.removeprefix(prefix): tensor for key, tensor in state_dict.items() if key.startswith(prefix)}
    adapters = {_adapter_of(key) for key in given} - {None}
    stored = {name: values for name in adapters if (values := _take_stored_settings(network, name))}
    try:
        settings = {name: AdapterSettings.from_dict(values) for name, values in stored.items()}
        with unchanged_if_refused(network):
            for name in adapters:
                travelling = given.get(f"tile_scaling.modules_to_save.{name}.settings")
                _check_form(network, settings.get(name), travelling)
                if travelling is not None:
                    _fit_classes(network, name, travelling_values(travelling))
            _check_tensors(network.state_dict(), given, adapters)
    except Exception:
        for name in stored:
            _take_out(network, name)
        raise
    for name, values in settings.items():
        scaling_of(network, name).adapter_settings = values


def carry_settings(network: nn.Module, *_) -> None:
    """Give PEFT's configuration of each adapter its settings, as a `state_dict` pre-hook: before they are saved."""
    configs = vars(network).get("peft_config")
    if not configs:
        return
    from peft import LoraConfig

    from ..adapter_format.lora_config import TopoLoraConfig

    for name, config in configs.items():
        if isinstance(config, LoraConfig):
            scaling = scaling_of(network, name)
            settings = scaling.adapter_settings or AdapterSettings.of_network(network).with_classes(scaling.num_labels)
            TopoLoraConfig.extend(config, settings.in_form(**scaling.travelling))


def scaling_of(network: nn.Module, adapter: str) -> TileScaling:
    """Give an adapter's own `TileScaling`; the base's for an adapter that has none."""
    return _own(network.tile_scaling, adapter)


def _own(module: nn.Module, adapter: str) -> nn.Module:
    """Give an adapter's own copy of a module; the base's for an adapter that has none."""
    of_adapters = getattr(module, "modules_to_save", {})
    return of_adapters[adapter] if adapter in of_adapters else getattr(module, "original_module", module)


def _take_stored_settings(network: nn.Module, adapter: str) -> dict | None:
    """Give the copy of the settings that PEFT read with an adapter, and keep it no longer: they may be changed."""
    config = vars(network).get("peft_config", {}).get(adapter)
    mapping = getattr(config, "auto_mapping", None) or {}
    if "settings" in mapping:
        config.auto_mapping = None
    return mapping.get("settings")


def _check_form(network: nn.Module, settings: AdapterSettings | None, travelling: torch.Tensor | None) -> None:
    of_base = network.base_form
    of_adapter = settings.form if settings else of_base
    if travelling is not None:  # what will run, whatever the settings say
        values = travelling_values(travelling)
        if settings is not None:
            settings.check_classes(values["num_labels"])
        of_adapter = replace(of_adapter, **values)
    of_base.check_adapter(of_adapter)


def _fit_classes(network: nn.Module, adapter: str, travelling: dict) -> None:
    """Make room for the adapter's number of classes in what it brings. Its own, or the base's, must then have it."""
    labels = travelling["num_labels"]
    scaling_of(network, adapter).change(num_labels=labels)
    parts = {"class_masks": (network.class_masks, labels - 1)} if travelling["use_sam"] else {}
    if travelling["detail_channels"]:
        parts["detail_branch.correction"] = (network.detail_branch.correction, labels)
    for name, (module, rows) in parts.items():
        own = _own(module, adapter)
        if own is not getattr(module, "original_module", module):
            set_rows(own, rows)
        present = len(next(own.parameters()))
        if present != rows and labels > 1:
            raise AdapterMismatchError(f"the adapter has num_labels={labels}, but brings no {name}: missing")


def _check_tensors(own: dict, given: dict, adapters: set[str]) -> None:
    problems = [f"missing {key}" for key in own if _adapter_of(key) in adapters and key not in given]
    problems += [f"unexpected {key}" for key in given if key not in own]
    problems += [
        _misfit(key, tensor.shape, own[key].shape)
        for key, tensor in given.items()
        if key in own and tensor.shape != own[key].shape
    ]
    if problems:
        raise AdapterMismatchError("the adapter does not fit this base: " + "; ".join(problems))


def _take_out(network: nn.Module, adapter: str) -> None:
    """Take an adapter out again as PEFT does, but whichever layers it has."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import ModulesToSaveWrapper

    for module in list(network.modules()):
        if isinstance(module, ModulesToSaveWrapper):
            module.delete_adapter(adapter, [name for name in module.active_adapters if name != adapter])
        elif isinstance(module, BaseTunerLayer):
            module.delete_adapter(adapter)
    del network.peft_config[adapter]
    if not network.peft_config:
        del network.peft_config


def check_base_parts(
    network: nn.Module, unexpected: Iterable[str], mismatched: Iterable[tuple], missing: Iterable[str] = ()
) -> None:
    """Check that each stored part of a base is read whole, or left out whole (`detail_channels=0`).

    Context blocks that a stored detail branch lacks are no fault: they start as the identity.

    Args:
        network: the base, in the form that was asked for.
        unexpected: names of stored tensors that it has no place for.
        mismatched: (name, stored shape, expected shape) of others that do not fit.
        missing: names of tensors that are not stored. Those of SAM are transformers' to report.

    Raises:
        ValueError: naming the tensors that would have been left out or made up.
    """
    parts = ("spatial_adapter.",) if network.detail_branch is None else ("spatial_adapter.", "detail_branch.")
    problems = [f"missing {key}" for key in sorted(missing) if key.startswith("class_masks.")]
    problems += [f"no place for {key}" for key in sorted(unexpected) if key.startswith(parts)]
    problems += [_misfit(*entry) for entry in sorted(mismatched)]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ValueError(
            f"the base {network.name_or_path} was stored in another form than {network.config.form}: "
            f"{'; '.join(problems[:3])}{more}. Its parts are read whole; detail_channels=0 leaves the detail branch out"
        )


def _misfit(key: str, given: Sequence[int], expected: Sequence[int]) -> str:
    return f"{key} has shape {tuple(given)}, the base expects {tuple(expected)}"


def _adapter_of(key: str) -> str | None:
    """Give the name of the adapter that a tensor belongs to; None for the base's own."""
    match = _ADAPTER_KEY.search(key)
    return match and match["adapter"]
