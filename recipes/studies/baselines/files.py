"""A trained specialist as a directory: `model.safetensors` and `specialist.json`."""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.files import read_json_object
from baselines.networks import SPECIALISTS, Specialist, build_specialist

_SETTINGS_FILE, _WEIGHTS_FILE = "specialist.json", "model.safetensors"
# What `AdapterSettings` says of our network; the rest, how images are brought to a network and what is made of its
# logits, is a specialist's too.
_OURS_ALONE = {"base", "preset", "image_size", "detail_channels", "detail_context", "spatial_adapter_form"}
_OURS_ALONE |= {"use_sam", "labels"}


def specialist_settings(**settings) -> AdapterSettings:
    """`AdapterSettings` of a specialist, such as `tile_size`, `view` and `threshold`: it has no base.

    Raises:
        ValueError: for a setting that a specialist does not have.
    """
    _require_known(settings)
    return AdapterSettings(base="", **settings)


def is_specialist(directory: str | Path) -> bool:
    """Whether this is the directory of a specialist."""
    return (Path(directory) / _SETTINGS_FILE).is_file()


def save_specialist(model: Specialist, settings: AdapterSettings, directory: str | Path) -> None:
    """Writes `model.safetensors` and `specialist.json`; the directory is made where there is none."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, directory / _WEIGHTS_FILE)
    values = {name: value for name, value in asdict(settings).items() if name not in _OURS_ALONE}
    text = json.dumps({"network": model.name, **values}, indent=2) + "\n"
    (directory / _SETTINGS_FILE).write_text(text, encoding="utf-8")


def load_specialist(directory: str | Path) -> Specialist:
    """Loads what `save_specialist` wrote.

    Returns:
        The specialist in evaluation mode; `adapter_settings` are what `Predictor` needs.

    Raises:
        FileNotFoundError: one of the two files is not there.
        ValueError: a file cannot be read, names an unknown network, or holds other tensors than that network has.
    """
    directory = Path(directory)
    for name in (_SETTINGS_FILE, _WEIGHTS_FILE):
        if not (directory / name).is_file():
            raise FileNotFoundError(f"{directory} holds no {name}: it is not a specialist's directory")
    name, settings = _read_settings(directory / _SETTINGS_FILE)
    model = build_specialist(name)
    weights = directory / _WEIGHTS_FILE
    try:
        model.load_state_dict(load_file(weights))
    except SafetensorError as error:
        raise ValueError(f"{weights} cannot be read as safetensors: {error}") from error
    except RuntimeError as error:  # names every missing, unexpected and mis-shaped tensor
        raise ValueError(f"{weights} does not fit the network {name}: {error}") from error
    model.adapter_settings = settings
    return model.eval()


def _read_settings(file: Path) -> tuple[str, AdapterSettings]:
    """The network's name, and the settings."""
    values = read_json_object(file)
    if not {"network", "tile_size"} <= values.keys():
        raise ValueError(f"{file} must hold an object with `network` and `tile_size`")
    name = values.pop("network")
    if not isinstance(name, str) or name not in SPECIALISTS:
        raise ValueError(f"{file}: unknown network {name!r}: one of {', '.join(SPECIALISTS)}")
    try:
        _require_known(values)
        return name, AdapterSettings.from_dict({"base": "", **values})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from error


def _require_known(settings: Mapping) -> None:
    known = {item.name for item in fields(AdapterSettings)} - _OURS_ALONE
    if not settings.keys() <= known:
        unknown = ", ".join(sorted(settings.keys() - known))
        raise ValueError(f"a specialist has no settings {unknown}; it has {', '.join(sorted(known))}")
