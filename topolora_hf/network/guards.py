"""Nothing loads partially: an adapter that does not fit its base whole is an error, whichever loader reads it.

PEFT and transformers ignore unexpected tensors and only warn of missing ones. A vessel adapter without its decoder
still predicts, only badly; so both checks here raise, and name the tensors.
"""

import re
from collections.abc import Iterable, Sequence

from torch import nn

from ..adapter_format.errors import AdapterMismatchError

_ADAPTER_KEY = re.compile(r"\.(?:lora_[AB]|modules_to_save)\.(?P<adapter>[^.]+)\.")
_SETTINGS_KEY = re.compile(r"^tile_scaling\.modules_to_save\.[^.]+\.settings$")


def check_adapter_keys(network: nn.Module, state_dict: dict, prefix: str, *_) -> None:
    """Check an adapter's tensors, as a `load_state_dict` pre-hook: complete, known and in shape, or not loaded at all.

    Raises:
        AdapterMismatchError: naming every missing, unexpected or mis-shaped tensor.
    """
    own = network.state_dict()
    own_adapters = {key: _adapter_of(key) for key in own if _adapter_of(key)}
    if not own_adapters:
        return
    given = {key.removeprefix(prefix): tensor for key, tensor in state_dict.items() if key.startswith(prefix)}
    for key, tensor in given.items():
        if _SETTINGS_KEY.match(key):
            _check_detail_channels(network, int(tensor[2]))
    loaded = {_adapter_of(key) for key in given}
    _refuse(
        missing=[key for key, adapter in own_adapters.items() if adapter in loaded and key not in given],
        unexpected=[key for key in given if key not in own],
        mismatched=[
            (key, tensor.shape, own[key].shape)
            for key, tensor in given.items()
            if key in own and tensor.shape != own[key].shape
        ],
    )


def check_loaded_adapter(network: nn.Module, adapter_name: str, loading_info) -> None:
    """Check the same after transformers' own loading, which reports instead of calling `load_state_dict`.

    Raises:
        AdapterMismatchError: naming every missing, unexpected or mis-shaped tensor.
    """
    scaling = network.tile_scaling
    if adapter_name in getattr(scaling, "modules_to_save", {}):
        _check_detail_channels(network, scaling.modules_to_save[adapter_name].detail_channels)
    missing = [key for key in loading_info.missing_keys if _adapter_of(key) == adapter_name]
    _refuse(sorted(missing), sorted(loading_info.unexpected_keys), sorted(loading_info.mismatched_keys))


def check_base_parts(network: nn.Module, unexpected: Iterable[str], mismatched: Iterable[tuple]) -> None:
    """Check that each stored part of a base is read whole, or left out whole (`detail_channels=0`).

    Context blocks that a stored detail branch lacks are no fault: they start as the identity.

    Args:
        network: the base, in the form that was asked for.
        unexpected: names of stored tensors that it has no place for.
        mismatched: (name, stored shape, expected shape) of others that do not fit.

    Raises:
        ValueError: naming the tensors that would have been left out.
    """
    parts = ("spatial_adapter.",) if network.detail_branch is None else ("spatial_adapter.", "detail_branch.")
    problems = [f"no place for {key}" for key in sorted(unexpected) if key.startswith(parts)]
    problems += [_misfit(*entry) for entry in sorted(mismatched)]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ValueError(
            f"the base {network.name_or_path} was stored in another form than {network.config.form}: "
            f"{'; '.join(problems[:3])}{more}. Its parts are read whole; detail_channels=0 leaves the detail branch out"
        )


def _refuse(missing: list[str], unexpected: list[str], mismatched: list[tuple]) -> None:
    problems = [f"missing {key}" for key in missing] + [f"unexpected {key}" for key in unexpected]
    problems += [_misfit(*entry) for entry in mismatched]
    if problems:
        raise AdapterMismatchError("the adapter does not fit this base: " + "; ".join(problems))


def _misfit(key: str, given: Sequence[int], expected: Sequence[int]) -> str:
    return f"{key} has shape {tuple(given)}, the base expects {tuple(expected)}"


def _adapter_of(key: str) -> str | None:
    """Give the name of the adapter that a tensor belongs to; None for the base's own."""
    match = _ADAPTER_KEY.search(key)
    return match and match["adapter"]


def _check_detail_channels(network: nn.Module, of_adapter: int) -> None:
    of_base = network.config.detail_channels
    if of_adapter != of_base:
        raise AdapterMismatchError(
            f"the adapter was trained with detail_channels={of_adapter}, this base has detail_channels={of_base}: "
            f"load the base with detail_channels={of_adapter}, or use topolora_hf.load_adapter, which does"
        )
