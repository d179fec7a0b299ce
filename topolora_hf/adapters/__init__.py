"""Adapters: from a preset to a PEFT model, and back from a directory or the Hub."""

from .creation import create_adapter, save_adapter, unfreeze
from .loading import AdaptedNetwork, load_adapter, merge_adapter
from .parameters import format_parameter_table, parameter_table
from .presets import LIVING_DECODER, LORA_TARGETS, PRESETS, WHOLE_DECODER, get_preset, preset_network_settings
from .settings import SETTINGS_FILE, AdapterSettings, public_base_name

__all__ = [
    "LIVING_DECODER",
    "LORA_TARGETS",
    "PRESETS",
    "SETTINGS_FILE",
    "WHOLE_DECODER",
    "AdaptedNetwork",
    "AdapterSettings",
    "create_adapter",
    "format_parameter_table",
    "get_preset",
    "load_adapter",
    "merge_adapter",
    "parameter_table",
    "preset_network_settings",
    "public_base_name",
    "save_adapter",
    "unfreeze",
]
