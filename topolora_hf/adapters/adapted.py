"""A base with its adapters: PEFT's model, for adapters that are more than LoRA."""

import inspect
from pathlib import Path

from peft import PeftModel
from peft.utils import ModulesToSaveWrapper

from ..adapter_format.reading import AdapterFiles, read_adapter
from ..network.guards import scaling_of, unchanged_if_refused
from ..network.segmenter import TopoSamForSegmentation


class AdaptedNetwork(PeftModel):
    """A `PeftModel` for adapters that are more than LoRA: what `load_adapter` and `create_adapter` return.

    Example:
        model = load_adapter("someone/drive-vessels", adapter_name="vessels")
        model.load_adapter("someone/polyps", adapter_name="polyps")  # on the same base
        model.set_adapter("polyps")  # model.adapter_settings, too, are those of the polyps from here on
    """

    adapter_settings = property(
        lambda self: self.get_base_model().adapter_settings,
        lambda self, settings: setattr(self.get_base_model(), "adapter_settings", settings),
        doc="The `AdapterSettings` of the active adapter.",
    )

    def load_adapter(
        self, model_id: str | Path | AdapterFiles, adapter_name: str, is_trainable: bool = False, **kwargs
    ):
        """Load one more adapter as PEFT does, with the errors of `topolora_hf.load_adapter`.

        What is refused leaves the model as it was. A base of another name or revision than the adapter was trained on
        gets a warning.
        """
        of_peft = inspect.signature(PeftModel.load_adapter).parameters.keys()
        files = read_adapter(model_id, **{name: value for name, value in kwargs.items() if name not in of_peft})
        kwargs = {name: value for name, value in kwargs.items() if name in of_peft}
        network = self.get_base_model()
        with unchanged_if_refused(self):
            network.base_form.check_adapter(files.settings.form)
            result = super().load_adapter(files.directory, adapter_name, is_trainable=is_trainable, **kwargs)
            scaling_of(network, adapter_name).adapter_settings = files.settings
        files.warn_unless_of(network.name_or_path, network.revision)
        return result

    def delete_adapter(self, adapter_name: str) -> None:
        """Delete an adapter. If it was the active one, the first of the others becomes active."""
        super().delete_adapter(adapter_name)
        if self.peft_config:  # PEFT chooses by the layers with LoRA, which not all adapters have
            active = self.active_adapter if self.active_adapter in self.peft_config else next(iter(self.peft_config))
            self.set_adapter(active, inference_mode=self.peft_config[active].inference_mode)

    def merge_and_unload(
        self, progressbar: bool = False, safe_merge: bool = False, adapter_names: list[str] | None = None
    ) -> TopoSamForSegmentation:
        """Merge the active adapter, or the one named. The network has no base name until it is saved and loaded again.

        Raises:
            ValueError: several are named; decoders and detail branches cannot be added up.
        """
        if adapter_names is not None:
            if len(adapter_names) != 1:
                raise ValueError(f"adapters are merged one at a time, got adapter_names={adapter_names}")
            self.set_adapter(adapter_names[0])
        return self.base_model.merge_and_unload(progressbar, safe_merge)

    def unload(self) -> TopoSamForSegmentation:
        """Give the base back. PEFT's own leaves the active adapter's decoder and detail branch in it."""
        for module in self.modules():
            if isinstance(module, ModulesToSaveWrapper):
                module.set_adapter([])
        return self.base_model.unload()

    def add_weighted_adapter(self, *args, **kwargs) -> None:
        """Refuse: adapters are more than LoRA, and decoders and detail branches cannot be added up. ValueError."""
        raise ValueError("adapters of topolora_hf cannot be added up: decoder and detail branch are not LoRA")

    def save_pretrained(self, *args, **kwargs) -> None:
        """Save as PEFT does, without its search for a resized vocabulary on the Hub."""
        super().save_pretrained(*args, **{"save_embedding_layers": False, **kwargs})
