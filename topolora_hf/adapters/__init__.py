"""Adapters: from a preset to a PEFT model, and back from a directory or the Hub."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "creation": ["AdapterSettings", "create_adapter", "preset_network_settings", "save_adapter", "unfreeze"],
        "adapted": ["AdaptedNetwork"],
        "loading": ["load_adapter", "merge_adapter"],
        "parameters": ["format_parameter_table", "parameter_table"],
    },
)
