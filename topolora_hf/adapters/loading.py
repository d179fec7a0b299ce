"""From a directory or the Hub to a PEFT model, and on to a plain network."""

import copy
import warnings
from dataclasses import replace
from pathlib import Path

from peft import PeftConfig, PeftModel
from torch import nn

from ..adapter_format.errors import AdapterMismatchError
from ..adapter_format.location import complete_directory
from ..adapter_format.names import public_base_name
from ..adapter_format.settings import AdapterSettings
from ..network.segmenter import TopoSamForSegmentation


def load_adapter(
    name_or_path: str | Path,
    base: str | TopoSamForSegmentation | None = None,
    adapter_name: str = "default",
    is_trainable: bool = False,
    **hub_options,
) -> PeftModel:
    """Loads an adapter with the base it was trained on, built in the form it needs; from the Hub at the same commit.

    Args:
        name_or_path: a directory, or a Hub id such as `"someone/drive-vessels"`.
        base: in place of the base that the adapter names: a Hub id, a directory, or a network.
        adapter_name: the name by which `set_adapter` knows it.
        is_trainable: whether to go on training it.
        **hub_options: `revision`, of the adapter; `token` and `cache_dir`, of its base, too, as `huggingface_hub` takes
            them.

    Returns:
        The `PeftModel`, in evaluation mode unless trainable; `model.adapter_settings` holds its `AdapterSettings`.

    Raises:
        FileNotFoundError: no adapter of this package is there, or its base was a directory that is not here.
        OSError: the Hub cannot be reached, has no such repository or revision, or sent a file that is not whole.
        ValueError: its settings are not JSON, or are none that an adapter of this package has.
        AdapterMismatchError: its tensors do not fit the base, or are not finite; the message names each.
    """
    settings = AdapterSettings.from_pretrained(name_or_path, **hub_options)
    directory = complete_directory(name_or_path, **hub_options)
    if isinstance(base, nn.Module):
        network = base
        if not isinstance(network, TopoSamForSegmentation):
            raise AdapterMismatchError(f"the base must be a TopoSamForSegmentation, got a {type(network).__name__}")
    else:
        base = base or settings.base
        form = settings.network_settings()
        if base == settings.base:
            form["revision"] = PeftConfig.from_pretrained(directory).revision
        form |= {name: hub_options[name] for name in ("token", "cache_dir") if name in hub_options}
        try:
            network = TopoSamForSegmentation.from_pretrained(base, **form)
        except FileNotFoundError:
            raise
        except OSError as error:  # transformers says the same of a line that went dead and of a name that is wrong
            raise OSError(f"the base {base} cannot be loaded (if it is on the Hub, try again): {error}") from error
    model = AdaptedNetwork.from_pretrained(network, directory, adapter_name=adapter_name, is_trainable=is_trainable)
    return model.train(is_trainable)


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
        """Those of the active adapter; None when it was not loaded but added."""
        return self._settings_by_name.get(self.active_adapter)

    def merge_and_unload(self, *args, **kwargs) -> TopoSamForSegmentation:
        """PEFT's. The network is the base of that name no more, and has none until it is saved and loaded."""
        return _without_name(self.base_model.merge_and_unload(*args, **kwargs))

    def load_adapter(self, model_id: str | Path, adapter_name: str, is_trainable: bool = False, **kwargs):
        """PEFT's, with the settings and with the errors of `topolora_hf.load_adapter`.

        A base of another name or revision than the adapter was trained on gets a warning: it may fit in shape and
        predict nonsense.
        """
        hub_options = {name: kwargs.pop(name) for name in ("revision", "token", "cache_dir") if name in kwargs}
        settings = AdapterSettings.from_pretrained(model_id, **hub_options)
        directory = complete_directory(model_id, **hub_options)
        try:
            result = super().load_adapter(directory, adapter_name, is_trainable=is_trainable, **kwargs)
        except KeyError as error:  # how PEFT says that a tensor of a whole trained part is not in the file
            raise AdapterMismatchError(f"the adapter does not fit this base: missing {error.args[0]}") from error
        self._settings_by_name[adapter_name] = settings
        network = self.get_base_model()
        ours, trained_on = (public_base_name(name) for name in (network.name_or_path, settings.base))
        revisions = network.revision, self.peft_config[adapter_name].revision
        if ours == trained_on and None not in revisions and revisions[0] != revisions[1]:
            ours, trained_on = (f"{ours} of revision {revision}" for revision in revisions)
        if ours and ours != trained_on:
            warnings.warn(f"{model_id} was trained on the base {trained_on}; this one is {ours}", stacklevel=2)
        return result


def merge_adapter(model: PeftModel) -> TopoSamForSegmentation:
    """The base with the active adapter folded in: a plain network without a trace of PEFT. The model stays as it is.

    Returns:
        A network in evaluation mode. It carries the adapter's settings as `adapter_settings`, and `save_pretrained`
        writes them too. It has no name: to train an adapter on it, save it and load it from there.
    """
    network = _without_name(copy.deepcopy(model).merge_and_unload()).eval()
    network.update_config()
    settings = getattr(model, "adapter_settings", None)
    if settings is not None:
        network.adapter_settings = replace(settings, base=public_base_name(settings.base))
    return network


def _without_name(network: TopoSamForSegmentation) -> TopoSamForSegmentation:
    """Else an adapter that is trained on it would name weights that it was not trained on."""
    network.name_or_path = network.config._name_or_path = ""
    network.revision = None
    return network
