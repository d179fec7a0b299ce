"""A base with its adapters: PEFT's model, which knows the settings of each."""

from pathlib import Path

from peft import PeftModel

from ..adapter_format.errors import AdapterMismatchError
from ..adapter_format.reading import AdapterFiles, read_adapter
from ..adapter_format.settings import AdapterSettings
from ..network.segmenter import TopoSamForSegmentation


class AdaptedNetwork(PeftModel):
    """A `PeftModel` that knows the settings of each of its adapters: what `load_adapter` returns.

    Example:
        model = load_adapter("someone/drive-vessels", adapter_name="vessels")
        model.load_adapter("someone/polyps", adapter_name="polyps")  # on the same base
        model.set_adapter("polyps")  # model.adapter_settings, too, are those of the polyps from here on
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._settings_by_name: dict[str, AdapterSettings] = {}

    @property
    def adapter_settings(self) -> AdapterSettings | None:
        """The settings of the active adapter; None if it was not loaded but added."""
        return self._settings_by_name.get(self.active_adapter)

    def merge_and_unload(self, *args, **kwargs) -> TopoSamForSegmentation:
        """Merge as PEFT does. The merged network has no base name until it is saved and loaded again."""
        network = self.base_model.merge_and_unload(*args, **kwargs)
        network.forget_name()
        return network

    def load_adapter(
        self, model_id: str | Path | AdapterFiles, adapter_name: str, is_trainable: bool = False, **kwargs
    ):
        """Load one more adapter as PEFT does, with its settings and with the errors of `topolora_hf.load_adapter`.

        A base of another name or revision than the adapter was trained on gets a warning.
        """
        hub_options = {name: kwargs.pop(name) for name in ("revision", "token", "cache_dir") if name in kwargs}
        files = read_adapter(model_id, **hub_options)
        try:
            result = super().load_adapter(files.directory, adapter_name, is_trainable=is_trainable, **kwargs)
        except KeyError as error:  # how PEFT says that a tensor of a whole trained part is not in the file
            raise AdapterMismatchError(f"the adapter does not fit this base: missing {error.args[0]}") from error
        self._settings_by_name[adapter_name] = files.settings
        network = self.get_base_model()
        files.warn_unless_of(network.name_or_path, network.revision)
        return result
