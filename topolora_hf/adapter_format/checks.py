"""The two files of an adapter that PEFT reads, checked before it does: they come from strangers.

PEFT acts on more fields of `adapter_config.json` than an adapter of this package needs: one names a module to import,
others are regular expressions that may take for ever, or multiply layers. Fields that are not known to be harmless must
have their default here.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from peft import LoraConfig
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError, safe_open

from ..files import read_json_object
from .errors import AdapterMismatchError
from .values import check_setting_values, is_number, is_whole

_LARGEST_RANK = 1024
_PREFIX = "base_model.model."
_SCALING = "tile_scaling.settings"
# What `create_adapter` writes, one layer or several named; not any regular expression.
_TARGETS = re.compile(
    r"sam\\.vision_encoder\\.layers\\.(\\d\+|\(\?:\d{1,3}(\|\d{1,3})*\))\\.mlp\\.lin(\[12\]|1|2)|dummy-target-modules"
)
_NAME = re.compile(r"[A-Za-z0-9_.]{1,200}")
_OUR_MAPPING = {"base_model_class": "TopoSamForSegmentation", "parent_library": "topolora_hf"}
_TEXTS = ("base_model_name_or_path", "revision", "peft_version", "task_type")


def check_adapter_files(directory: str | Path) -> None:
    """Checks `adapter_config.json` and `adapter_model.safetensors`.

    Raises:
        FileNotFoundError: one of them is not there.
        ValueError: `adapter_config.json` is not JSON, or asks of PEFT what no adapter of this package needs.
        AdapterMismatchError: the tensors cannot be read, or are not finite numbers; each is named.
    """
    directory = Path(directory)
    for name in (CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME):
        if not (directory / name).is_file():
            raise FileNotFoundError(f"{directory} holds no {name}: it is not an adapter directory of topolora_hf")
    rank = check_adapter_config(directory / CONFIG_NAME)
    check_adapter_tensors(directory / SAFETENSORS_WEIGHTS_NAME, rank)


def check_adapter_config(file: str | Path) -> int:
    """Checks PEFT's settings; returns the rank r.

    Raises:
        ValueError: naming the file, the field, its value and what is allowed.
    """
    config = read_json_object(file)
    if config.get("peft_type") != "LORA":
        raise ValueError(f"{file}: peft_type must be LORA, got {config.get('peft_type')!r}")
    defaults = LoraConfig().to_dict()
    for name, value in config.items():
        if name not in defaults:  # of another version of PEFT, which leaves it out
            continue
        is_allowed, allowed = _CONFIG_FIELDS.get(name, (None, None))
        if is_allowed is None:
            allowed = f"{defaults[name]!r}, as adapters of topolora_hf have it"
        if not (is_allowed(value) if is_allowed else value == defaults[name]):
            shown = repr(value)
            shown = shown if len(shown) <= 100 else shown[:100] + "..."
            raise ValueError(f"{file}: {name} must be {allowed}, got {shown}")
    return config.get("r", defaults["r"])


def check_adapter_tensors(file: str | Path, rank: int) -> None:
    """Checks names, types, LoRA's rank, and that every number is finite.

    Raises:
        AdapterMismatchError: naming the file and every tensor at fault.
    """
    try:
        with safe_open(file, framework="pt") as tensors:
            names = list(tensors.keys())
            foreign = [name for name in names if not name.startswith(_PREFIX)]
            # What does not carry PEFT's prefix never reaches the network, whose own check would name it.
            if foreign:
                raise AdapterMismatchError(f"{file} holds tensors that no adapter has: {', '.join(foreign)}")
            problems = [problem for name in names if (problem := _problem(name, tensors.get_tensor(name), rank))]
    except SafetensorError as error:
        raise AdapterMismatchError(f"{file} cannot be read as safetensors: {error}") from error
    if problems:
        raise AdapterMismatchError(f"{file} cannot be used: {'; '.join(problems)}")


def _problem(name: str, tensor: torch.Tensor, rank: int) -> str | None:
    if name == _PREFIX + _SCALING:
        return _scaling_problem(name, tensor)
    if name.endswith("num_batches_tracked"):
        return None if tensor.dtype == torch.int64 else f"{name} is {tensor.dtype}, not int64"
    if tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        return f"{name} is {tensor.dtype}; float16, bfloat16, float32 or float64 are needed"
    if not torch.isfinite(tensor).all():
        return f"{name} holds {int((~torch.isfinite(tensor)).sum())} values that are not finite (NaN or infinite)"
    if name.endswith(".lora_A.weight") and tensor.shape[:1] != (rank,):
        return f"{name} has shape {tuple(tensor.shape)}, but {CONFIG_NAME} says r={rank}"
    return None


def _scaling_problem(name: str, tensor: torch.Tensor) -> str | None:
    """The sizes that travel with the weights, as `TileScaling` keeps them."""
    if tensor.dtype != torch.int64 or tensor.shape != (4,):
        return f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}; four int64 are needed"
    image_size, tile_size, detail_channels, use_sam = tensor.tolist()
    sizes = {"image_size": image_size, "tile_size": tile_size, "detail_channels": detail_channels}
    try:
        check_setting_values(sizes)
    except ValueError as error:
        return f"{name}: {error}"
    if image_size % 16 or tile_size % 4:
        return f"{name}: image_size must be a multiple of 16 and tile_size of 4, got {image_size} and {tile_size}"
    return None if use_sam in (0, 1) else f"{name}: use_sam must be 0 or 1, got {use_sam}"


def _is_text_or_none(value: object) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= 1000)


def _is_switch(value: object) -> bool:
    return isinstance(value, bool)


def _are_names(value: object) -> bool:
    return (
        isinstance(value, list) and len(value) <= 1000 and all(isinstance(v, str) and _NAME.fullmatch(v) for v in value)
    )


def _are_targets(value: object) -> bool:
    return _are_names(value) or (isinstance(value, str) and bool(_TARGETS.fullmatch(value)))


def _is_our_mapping(value: object) -> bool:
    return value is None or (isinstance(value, Mapping) and dict(value) == _OUR_MAPPING)


_CONFIG_FIELDS = {
    "peft_type": (lambda value: value == "LORA", "LORA"),
    "r": (lambda value: is_whole(value, 1, _LARGEST_RANK), f"a whole number from 1 to {_LARGEST_RANK}"),
    "lora_alpha": (lambda value: is_number(value, -1e6, 1e6), "a number"),
    "lora_dropout": (lambda value: is_number(value, 0, 1), "a number from 0 to 1"),
    "bias": (lambda value: value == "none", "none"),
    "target_modules": (_are_targets, "the pattern that topolora_hf writes, or a list of names"),
    "modules_to_save": (lambda value: value is None or _are_names(value), "a list of names"),
    "auto_mapping": (_is_our_mapping, f"{_OUR_MAPPING} or null"),
    "inference_mode": (_is_switch, "true or false"),
    "use_rslora": (_is_switch, "true or false"),
    # How LoRA would start where its tensors are not in the file: they are, always.
    "init_lora_weights": (_is_switch, "true or false"),
    **{name: (_is_text_or_none, "a text or null") for name in _TEXTS},
}  # fmt: skip
