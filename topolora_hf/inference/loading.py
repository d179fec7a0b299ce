"""From a name on the command line to a network that `Predictor` takes."""

from pathlib import Path

import torch
from torch import nn

from ..adapter_format.names import EMBEDDED, full_base_name
from ..adapter_format.settings import SETTINGS_FILE, AdapterSettings
from ..adapters.loading import load_adapter
from ..network.embedded import PRETRAINED
from ..network.segmenter import TopoSamForSegmentation

ADAPTER_HELP = "an adapter's directory or Hub id; the directory of a whole base; or an embedded base"
DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
DTYPE_HELP = f"the precision to run in, {', '.join(DTYPES)}; by default float32"


def load_network(name: str, base: str | None = None) -> nn.Module:
    """An adapter on its base or on the one given, or a base as it comes; with `adapter_settings`.

    Raises:
        OSError: nothing is there, or the base cannot be had.
        ValueError: a base is given for a whole network.
        AdapterMismatchError: the adapter does not fit its base.
    """
    if base is not None and (is_whole_base(name)):
        raise ValueError(f"{name} is a whole network, which has no base; got --base {base}")
    if is_whole_base(name):
        full_name = full_base_name(name)
        directory = PRETRAINED.get(full_name, Path(name))
        has_settings = (directory / SETTINGS_FILE).is_file()  # such as those of an adapter that was merged into it
        settings = AdapterSettings.from_pretrained(directory) if has_settings else None
        form = settings.network_settings() if settings else {}
        network = TopoSamForSegmentation.from_pretrained(full_name, **form).eval()
        network.adapter_settings = settings or AdapterSettings.of_network(network)
        return network
    settings = AdapterSettings.from_pretrained(name)
    base = full_base_name(base or settings.base)
    try:
        return load_adapter(name, base=base)
    except OSError as error:
        raise OSError(f"cannot load {name} on the base {base}: {error}\n--base says where it is.") from error


def is_whole_base(name: str) -> bool:
    """Whether that is a base, embedded or in a directory, and no adapter."""
    return full_base_name(name) in EMBEDDED or Path(name, "config.json").is_file()


def autocast_dtype(name: str | None) -> torch.dtype | None:
    """What `Predictor` takes as `dtype`.

    >>> autocast_dtype("bfloat16"), autocast_dtype("float32"), autocast_dtype(None)
    (torch.bfloat16, None, None)

    Raises:
        ValueError: for a precision that there is not.
    """
    if name is not None and name not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}; got {name!r}")
    return DTYPES[name or "float32"]
