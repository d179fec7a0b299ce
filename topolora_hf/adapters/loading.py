"""From a name to a network that predicts, and on to a plain network without PEFT."""

import copy
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from ..adapter_format.errors import AdapterMismatchError
from ..adapter_format.names import full_base_name, public_base_name
from ..adapter_format.reading import AdapterFiles
from ..adapter_format.settings import AdapterSettings
from ..network.guards import unchanged_if_refused
from ..network.loading import find, hub_options, stored_settings
from ..network.segmenter import TopoSamForSegmentation

if TYPE_CHECKING:
    from peft import PeftModel


def load_adapter(
    name_or_path: str | Path | AdapterFiles,
    base: str | TopoSamForSegmentation | None = None,
    adapter_name: str = "default",
    is_trainable: bool = False,
    **options,
) -> "PeftModel | TopoSamForSegmentation":
    """Load an adapter with the base it was trained on, in the form it needs; from the Hub at the same commit.

    Args:
        name_or_path: a directory, or a Hub id such as `"someone/drive-vessels"`. A base's name (`"tiny"`, the directory
            or Hub id of a whole network) loads that base as it comes.
        base: in place of the base that the adapter names: a Hub id, a directory, or a network.
        adapter_name: the name by which `set_adapter` knows it.
        is_trainable: whether to go on training it.
        **options: `revision`, of the adapter; `token`, `cache_dir`, `local_files_only` and `force_download`, of its
            base, too, as `huggingface_hub` takes them; and what loads its base, such as `dtype` and `device_map`.

    Returns:
        A `PeftModel`, or of a base's name the network itself; in evaluation mode unless trainable. Its
        `adapter_settings` are the adapter's, or the base's, `AdapterSettings`.

    Raises:
        FileNotFoundError: no adapter of this package is there, or its base was a directory that is not here.
        OSError: the Hub cannot be reached, or sent a file that is not whole.
        ValueError: its settings are none that an adapter has; or a base is given for a whole network.
        AdapterMismatchError: its tensors do not fit the base, or are not finite. A base that was given is as it was.
    """
    found = find(name_or_path, **hub_options(options))
    revision = options.pop("revision", None)
    if not isinstance(found, AdapterFiles):
        if base is not None:
            raise ValueError(f"{name_or_path} is a whole network, which has no base; got base {base}")
        return _load_whole(found, revision=revision, **options).train(is_trainable)
    if isinstance(base, nn.Module):
        if unused := options.keys() - hub_options(options).keys():
            raise TypeError(f"{', '.join(sorted(unused))} would load a base, but a network is given")
    else:
        options["revision"] = found.commit if base is None else None
        base = _load_base(name_or_path, full_base_name(str(base or found.settings.base)), found.settings, **options)
    if not isinstance(base, TopoSamForSegmentation):
        raise AdapterMismatchError(f"the base must be a TopoSamForSegmentation, got a {type(base).__name__}")
    from .adapted import AdaptedNetwork  # PEFT takes a second to import, and a base needs none

    with unchanged_if_refused(base):
        model = AdaptedNetwork.from_pretrained(
            base, found, adapter_name, is_trainable, autocast_adapter_dtype=is_trainable
        )
    return model.train(is_trainable)


def _load_base(adapter: str | Path, base: str, settings: AdapterSettings, **options) -> TopoSamForSegmentation:
    try:
        network = TopoSamForSegmentation.from_pretrained(base, **settings.form.of_base, **options)
    except OSError as error:  # transformers says the same of a line that went dead and of a name that is wrong
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else OSError
        raise kind(
            f"cannot load {adapter} on the base {base}: {error}\nIf the base is on the Hub, try again; if it is "
            "elsewhere, `base` (--base) says where."
        ) from error
    if network._hf_peft_config_loaded:
        raise ValueError(f"cannot load {adapter} on the base {base}: that is an adapter itself")
    return network


def _load_whole(name: str, **options) -> TopoSamForSegmentation:
    """Load a base in the form of the settings stored beside it, such as those of an adapter merged into it."""
    settings = stored_settings(name, **hub_options(options))
    form = asdict(settings.form) if settings else {}
    network = TopoSamForSegmentation.from_pretrained(name, **form, **options)
    network.adapter_settings = settings or AdapterSettings.of_network(network)
    return network


def merge_adapter(model: "PeftModel") -> TopoSamForSegmentation:
    """Fold the active adapter into its base: a plain network in evaluation mode. The model stays as it is.

    It carries the adapter's settings, and has no name: to train an adapter on it, save it and load it from there.
    """
    network = copy.deepcopy(model).merge_and_unload().eval()
    settings = network.adapter_settings
    if settings is not None:
        network.adapter_settings = replace(settings, base=public_base_name(settings.base))
    return network
