"""Names: of embedded bases, of a base in what is published, and of an adapter's files."""

from pathlib import Path

ADAPTER_CONFIG = "adapter_config.json"  # as PEFT calls them
ADAPTER_WEIGHTS = "adapter_model.safetensors"
SETTINGS_FILE = "topolora_config.json"
# What `adapter_config.json` says of the base's class. Under `settings` lies a copy of `topolora_config.json` there, as
# PEFT's own loaders read no other file.
AUTO_MAPPING = {"base_model_class": "TopoSamForSegmentation", "parent_library": "topolora_hf"}

TINY = "topolora_hf/tiny"
TINY_REGIONS = "topolora_hf/tiny-regions"
VESSELS = "topolora_hf/vessels"
TINY_RANDOM = "topolora_hf/tiny-random"
VIT_S_RANDOM = "topolora_hf/vit-s-random"
VIT_B_RANDOM = "topolora_hf/vit-b-random"
PRETRAINED = (TINY, TINY_REGIONS, VESSELS)
EMBEDDED = (*PRETRAINED, TINY_RANDOM, VIT_S_RANDOM, VIT_B_RANDOM)


def full_base_name(name: str) -> str:
    """Complete the short name of an embedded base (`"tiny"`, `"vit-b-random"`); return any other name as it is."""
    return f"topolora_hf/{name}" if f"topolora_hf/{name}" in EMBEDDED else name


def public_base_name(name_or_path: str) -> str:
    """Give a base's name as it may be published: a Hub id, or the last part of a local path."""
    is_hub_id = name_or_path in ("", *EMBEDDED) or (name_or_path.count("/") <= 1 and not Path(name_or_path).exists())
    return name_or_path if is_hub_id else Path(name_or_path).resolve().name
