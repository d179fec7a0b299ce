"""Checks of the two files of an adapter that PEFT reads, before it does: they come from strangers.

PEFT acts on more fields of `adapter_config.json` than an adapter of this package needs: one names a module to import,
others are regular expressions that may take for ever, or multiply layers. Fields that are not known to be harmless must
have their default here.
"""

import re
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from ..files import read_json_object
from .errors import AdapterMismatchError
from .families import FAMILIES
from .form import TRAVELLING, NetworkForm
from .names import ADAPTER_CONFIG, AUTO_MAPPING, SETTINGS_FILE
from .presets import NO_LORA_TARGETS
from .settings import AdapterSettings
from .values import SWITCH, TEXT, Allowed, number, one_of, or_null, several, whole

_PREFIX = "base_model.model."
_SCALING = "tile_scaling.settings"
# What `create_adapter` writes: a family's patterns, or whole names; not any regular expression.
_PATTERNS = {family.lora_targets(parts) for family in FAMILIES.values() for parts in ("ffn", "attention", "all")}
_NAMED_LAYERS = re.compile(r"sam\\.vision_encoder\\.\(\?:([A-Za-z0-9_]|\\\.|\|){1,100000}\)")
_NAME = re.compile(r"[A-Za-z0-9_.]{1,200}")


def check_adapter_config(file: str | Path) -> dict:
    """Check PEFT's settings, and return them. ValueError names the file, the field, its value and what is allowed."""
    from peft import LoraConfig

    config = read_json_object(file)
    defaults = LoraConfig().to_dict()
    for name, value in {"peft_type": None, **config}.items():
        if name in defaults:  # else it is of another version of PEFT, which leaves it out
            default = f"{defaults[name]!r}, as adapters of topolora_hf have it"
            allowed = _CONFIG_FIELDS.get(name) or Allowed(lambda value, known=defaults[name]: value == known, default)
            allowed.require(f"{file}: {name}", value)
    return {"r": defaults["r"], **config}


def check_adapter_tensors(file: str | Path, rank: int, num_labels: int = 1) -> None:
    """Check names, types, LoRA's rank, the number of classes, and that every number is finite.

    AdapterMismatchError names each at fault.
    """
    try:
        with safe_open(file, framework="pt") as tensors:
            names = list(tensors.keys())
            foreign = [name for name in names if not name.startswith(_PREFIX)]
            # What does not carry PEFT's prefix never reaches the network, whose own check would name it.
            if foreign:
                raise AdapterMismatchError(f"{file} holds tensors that no adapter has: {', '.join(foreign)}")
            problems = [
                problem for name in names if (problem := _problem(name, tensors.get_tensor(name), rank, num_labels))
            ]
    except SafetensorError as error:
        raise AdapterMismatchError(f"{file} cannot be read as safetensors: {error}") from error
    if problems:
        raise AdapterMismatchError(f"{file} cannot be used: {'; '.join(problems)}")


def _problem(name: str, tensor: torch.Tensor, rank: int, num_labels: int) -> str | None:
    if name == _PREFIX + _SCALING:
        return _scaling_problem(name, tensor, num_labels)
    if name.endswith("num_batches_tracked"):
        return None if tensor.dtype == torch.int64 else f"{name} is {tensor.dtype}, not int64"
    if tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        return f"{name} is {tensor.dtype}; float16, bfloat16 or float32 is needed"
    if not torch.isfinite(tensor).all():
        return f"{name} holds {int((~torch.isfinite(tensor)).sum())} values that are not finite (NaN or infinite)"
    if name.endswith(".lora_A.weight") and tensor.shape[:1] != (rank,):
        return f"{name} has shape {tuple(tensor.shape)}, but {ADAPTER_CONFIG} says r={rank}"
    return None


def _scaling_problem(name: str, tensor: torch.Tensor, num_labels: int) -> str | None:
    """Check the part of the form that travels with the weights."""
    most = len(TRAVELLING)  # of several classes, else one less
    if tensor.dtype != torch.int64 or tensor.shape not in ((most - 1,), (most,)):
        return f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}; {most - 1} or {most} int64 are needed"
    form = dict(zip(TRAVELLING, tensor.tolist(), strict=False))
    if form["use_sam"] not in (0, 1):
        return f"{name}: use_sam must be 0 or 1, got {form['use_sam']}"
    try:
        own = NetworkForm(**{**form, "use_sam": bool(form["use_sam"])}).num_labels
    except ValueError as error:
        return f"{name}: {error}"
    return None if own == num_labels else f"{name}: num_labels={own}, but {SETTINGS_FILE} names {num_labels} classes"


def _is_pattern(value: object) -> bool:
    if not isinstance(value, str):
        return False
    return value == NO_LORA_TARGETS or value in _PATTERNS or bool(_NAMED_LAYERS.fullmatch(value))


def _is_auto_mapping(value: object) -> bool:
    if not isinstance(value, dict) or {key: value[key] for key in value if key != "settings"} != AUTO_MAPPING:
        return False
    try:
        return "settings" not in value or bool(AdapterSettings.from_dict(value["settings"]))
    except (TypeError, ValueError):
        return False


_NAMES = several(
    Allowed(lambda value: isinstance(value, str) and bool(_NAME.fullmatch(value)), "a name"), 0, 1000, "a list of names"
)
_CONFIG_FIELDS = {
    "peft_type": one_of("LORA"),
    "r": whole(1, 1024),
    "lora_alpha": number(),
    "lora_dropout": number(0, 1),
    "bias": one_of("none"),
    "target_modules": Allowed(
        lambda value: _is_pattern(value) or _NAMES.check(value),
        "the pattern that topolora_hf writes, or a list of names",
    ),
    "modules_to_save": or_null(_NAMES),
    "auto_mapping": or_null(Allowed(_is_auto_mapping, f"{AUTO_MAPPING}, with the `settings` of {SETTINGS_FILE}")),
    "inference_mode": SWITCH,
    "use_rslora": SWITCH,
    "use_dora": SWITCH,
    "init_lora_weights": SWITCH,  # how LoRA starts where its tensors are not in the file: they are, always
    **dict.fromkeys(("base_model_name_or_path", "revision", "peft_version", "task_type"), or_null(TEXT)),
}
