"""transformers' own way of loading adapters into a network, as strict as the others."""

import warnings
from pathlib import Path

from ..adapter_format.reading import AdapterFiles, read_adapter
from ..adapter_format.settings import AdapterSettings
from .guards import scaling_of, unchanged_if_refused


class PeftDoors:
    """What `transformers.PreTrainedModel` does with adapters, for adapters whose parts differ; and their settings."""

    @property
    def adapter_settings(self) -> AdapterSettings | None:
        """The settings of the active adapter, or those stored with the network itself; None where there are none."""
        return self.tile_scaling.adapter_settings

    @adapter_settings.setter
    def adapter_settings(self, settings: AdapterSettings | None) -> None:
        active = self.active_adapters()
        scaling = scaling_of(self, active[0]) if active else getattr(self.tile_scaling, "original_module", None)
        (scaling or self.tile_scaling).adapter_settings = settings

    def load_adapter(
        self,
        peft_model_id: str | Path | AdapterFiles | None = None,
        adapter_name: str | None = None,
        peft_config: dict | None = None,
        adapter_state_dict: dict | None = None,
        low_cpu_mem_usage: bool = False,
        is_trainable: bool = False,
        adapter_kwargs: dict | None = None,
        **hub_options,
    ) -> None:
        """Load an adapter as transformers does, and activate it. What does not fit this base whole is an error.

        There is no report of the loading to return: all of it was read.

        Raises:
            TypeError: for a keyword that would do nothing here.
            AdapterMismatchError: naming what does not fit; the network is as it was.
        """
        from peft import PeftConfig, inject_adapter_in_model
        from peft.functional import set_adapter
        from peft.utils import load_peft_weights, set_peft_model_state_dict

        name, files = adapter_name or "default", None
        if name in vars(self).get("peft_config", {}):
            raise ValueError(f"there is an adapter {name!r} already: give adapter_name, or delete_adapter({name!r})")
        if adapter_state_dict is None:
            files = read_adapter(peft_model_id, **hub_options, **(adapter_kwargs or {}))
            self.base_form.check_adapter(files.settings.form)
            adapter_state_dict = load_peft_weights(files.directory, device=str(self.device))
            peft_config = peft_config or PeftConfig.from_pretrained(files.directory)
        peft_config.inference_mode = not is_trainable
        tensors = {key.removeprefix("base_model.model."): tensor for key, tensor in adapter_state_dict.items()}
        with unchanged_if_refused(self), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")  # of the second adapter
            inject_adapter_in_model(peft_config, self, name, low_cpu_mem_usage=low_cpu_mem_usage)
            set_peft_model_state_dict(self, tensors, name, low_cpu_mem_usage=low_cpu_mem_usage)
            set_adapter(self, name, inference_mode=not is_trainable)  # also one without LoRA, beside others
            self._hf_peft_config_loaded = True
        if files is not None:
            self.adapter_settings = files.settings
        self.train(is_trainable)

    def set_adapter(self, adapter_name: list[str] | str) -> None:
        """Activate an adapter. ValueError for one that is not there."""
        from peft.functional import set_adapter

        names = [adapter_name] if isinstance(adapter_name, str) else adapter_name
        if unknown := [name for name in names if name not in vars(self).get("peft_config", {})]:
            raise ValueError(f"there is no adapter {', '.join(unknown)}")
        set_adapter(self, names)

    def active_adapters(self) -> list[str]:
        """Name the adapters that are active now."""
        scaling = self.tile_scaling
        return [] if getattr(scaling, "disable_adapters", True) else list(scaling.active_adapters)

    def enable_adapters(self) -> None:
        """Undo `disable_adapters`."""
        from peft.utils import ModulesToSaveWrapper

        super().enable_adapters()
        for module in self.modules():
            if isinstance(module, ModulesToSaveWrapper):
                module.enable_adapters(True)

    def delete_adapter(self, adapter_names: list[str] | str) -> None:
        """Delete adapters. If the active one is among them, the first of the others becomes active."""
        active = self.active_adapters()
        super().delete_adapter(adapter_names)
        left = list(vars(self).get("peft_config", {}))
        if left:
            self.set_adapter([name for name in active if name in left] or left[0])

    def save_pretrained(self, save_directory: str | Path, *args, **kwargs) -> None:
        """Save the active adapter, or the whole network where there is none; with its settings.

        Raises:
            ValueError: a `PeftModel` holds this network: that is to be saved, or merged.
        """
        adapters = vars(self).get("peft_config")
        if adapters and not self._hf_peft_config_loaded:
            raise ValueError(f"the network holds the adapters {', '.join(adapters)} of a PeftModel: save that or merge")
        if not adapters and self.tile_scaling.num_labels == 1:  # the masks of no further class
            self._keys_to_ignore_on_save |= {name for name in self.state_dict() if name.startswith("class_masks.")}
        super().save_pretrained(save_directory, *args, **kwargs)
        if not adapters and self.adapter_settings is not None:
            self.adapter_settings.save(save_directory)
