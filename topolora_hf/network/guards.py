"""Nothing loads partially: an adapter that does not fit its base whole is an error, whichever loader reads it.

PEFT and transformers ignore unexpected tensors and only warn of missing ones. A vessel adapter without its decoder
still predicts, only badly; so both checks here raise, and name the tensors.
"""

import re
from collections.abc import Iterable

from torch import nn

from ..adapter_format.errors import AdapterMismatchError

_ADAPTER_KEY = re.compile(r"\.(?:lora_[AB]|modules_to_save)\.(?P<adapter>[^.]+)\.")
_SETTINGS_KEY = re.compile(r"^tile_scaling\.modules_to_save\.[^.]+\.settings$")


def check_adapter_keys(network: nn.Module, state_dict: dict, prefix: str, *_) -> None:
    """`load_state_dict` pre-hook of the network: an adapter's tensors come complete, known and in shape, or not at all.

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
    problems = [f"missing {key}" for key, adapter in own_adapters.items() if adapter in loaded and key not in given]
    problems += [f"unexpected {key}" for key in given if key not in own]
    problems += [
        f"{key} has shape {tuple(tensor.shape)}, the base expects {tuple(own[key].shape)}"
        for key, tensor in given.items()
        if key in own and tensor.shape != own[key].shape
    ]
    if problems:
        raise AdapterMismatchError("the adapter does not fit this base: " + "; ".join(problems))


def check_loaded_adapter(network: nn.Module, adapter_name: str, loading_info) -> None:
    """The same after transformers' own loading, which reports instead of calling `load_state_dict`.

    Raises:
        AdapterMismatchError: naming every missing, unexpected or mis-shaped tensor.
    """
    scaling = network.tile_scaling
    if adapter_name in getattr(scaling, "modules_to_save", {}):
        _check_detail_channels(network, scaling.modules_to_save[adapter_name].detail_channels)
    problems = [f"missing {key}" for key in sorted(loading_info.missing_keys) if _adapter_of(key) == adapter_name]
    problems += [f"unexpected {key}" for key in sorted(loading_info.unexpected_keys)]
    problems += [
        f"{key} has shape {tuple(given)}, the base expects {tuple(expected)}"
        for key, given, expected in sorted(loading_info.mismatched_keys)
    ]
    if problems:
        raise AdapterMismatchError("the adapter does not fit this base: " + "; ".join(problems))


def check_detail_branch(network: nn.Module, unexpected_keys: Iterable[str]) -> None:
    """A base's detail branch comes whole, or not at all (`detail_channels=0`).

    Raises:
        ValueError: naming the tensors that would have been left out.
    """
    dropped = sorted(key for key in unexpected_keys if key.startswith("detail_branch."))
    if network.detail_branch is not None and dropped:
        raise ValueError(
            f"the detail branch of {network.name_or_path} was trained with context, and without it is another one: "
            f"detail_context=True keeps it, detail_channels=0 leaves the whole branch out (no place for "
            f"{', '.join(dropped)})"
        )


def _adapter_of(key: str) -> str | None:
    """The name of the adapter that a tensor belongs to; None for the base's own."""
    match = _ADAPTER_KEY.search(key)
    return match and match["adapter"]


def _check_detail_channels(network: nn.Module, of_adapter: int) -> None:
    of_base = network.config.detail_channels
    if of_adapter != of_base:
        raise AdapterMismatchError(
            f"the adapter was trained with detail_channels={of_adapter}, this base has detail_channels={of_base}: "
            f"load the base with detail_channels={of_adapter}, or use topolora_hf.load_adapter, which does"
        )
