"""The one ladder from a name to a base: what stands behind the name, and how it becomes a network."""

from collections.abc import Callable
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import RevisionResolutionError
from torch import nn
from transformers import SamConfig

from ..adapter_format.errors import AdapterMismatchError
from ..adapter_format.location import find_file
from ..adapter_format.names import EMBEDDED, SETTINGS_FILE, full_base_name
from ..adapter_format.reading import AdapterFiles, read_adapter
from ..adapter_format.settings import AdapterSettings
from ..files import quick_digest
from .configuration import TopoSamConfig
from .embedded import PRETRAINED, build_embedded
from .guards import check_base_parts
from .meta_checkpoint import read_meta_checkpoint

_HUB_OPTIONS = ("revision", "token", "cache_dir", "local_files_only", "force_download")


def find(name_or_path: str | Path | AdapterFiles, **hub) -> str | AdapterFiles:
    """Say what stands behind a name.

    1. an embedded base, by its full or its short name;
    2. Meta's own file, `*.pth`;
    3. the directory of a whole network, a stock SAM or one of ours, which has a `config.json`;
    4. an adapter, in a directory or on the Hub;
    5. a whole network on the Hub.

    Returns the files of an adapter, checked, or the (full) name of anything else. Raises as `read_adapter`;
    FileNotFoundError where there is neither a network nor an adapter.
    """
    if isinstance(name_or_path, AdapterFiles):
        return name_or_path
    name = full_base_name(str(name_or_path))
    if not name:
        raise FileNotFoundError("a base without a name cannot be loaded: save it, and give its directory")
    if name in EMBEDDED or name.endswith(".pth") or Path(name, "config.json").is_file():
        return name
    try:
        return read_adapter(name, **hub)
    except OSError:
        if not Path(name).exists() and _is_there(name, "config.json", **hub):
            return name
        raise


def load(
    network_class: type, read: Callable, name_or_path: str | Path | AdapterFiles, *args, **kwargs
) -> nn.Module | tuple[nn.Module, dict]:
    """Load a base, or an adapter on its base, by `read`, which is transformers' own `from_pretrained` of the class."""
    wants_info = kwargs.pop("output_loading_info", False)
    found = find(name_or_path, **hub_options(kwargs))
    if isinstance(found, AdapterFiles):
        network, info = _load_with_adapter(network_class, read, found, *args, **kwargs)
    else:
        network, info = _load_base(network_class, read, found, *args, **kwargs)
    return (network, info) if wants_info else network


def _load_with_adapter(network_class: type, read: Callable, adapter: AdapterFiles, *args, **kwargs):
    """Load the base at the commit and in the form that the adapter needs, and then the adapter."""
    form = adapter.settings.form
    for name in kwargs.keys() & vars(form):
        if kwargs[name] != getattr(form, name):
            raise AdapterMismatchError(f"{adapter} was trained with {name}={getattr(form, name)}, got {kwargs[name]}")
    kwargs.pop("num_labels", None)  # which the adapter brings to any base
    kwargs["revision"] = adapter.commit
    base = find(adapter.settings.base, **hub_options(kwargs))
    if isinstance(base, AdapterFiles):
        raise ValueError(f"{adapter.directory} names an adapter as its base: {adapter.settings.base}")
    network, info = _load_base(network_class, read, base, *args, **{**form.of_base, **kwargs})
    adapter.warn_unless_of(base, network.revision)
    network.load_adapter(adapter)
    return network, info


def _load_base(network_class: type, read: Callable, name: str, *args, **kwargs) -> tuple[nn.Module, dict]:
    if name in EMBEDDED:
        return build_embedded(network_class, name, **kwargs), {}
    kwargs["output_loading_info"] = True
    num_labels = kwargs.pop("num_labels", None)
    if name.endswith(".pth"):
        network, info = _load_meta_checkpoint(read, name, **kwargs)
    else:
        network, info = _load_directory(read, name, *args, **kwargs)
    if num_labels is not None:
        network.start_classes(num_labels)
    return network, info


def _load_directory(read: Callable, name: str, *args, **kwargs) -> tuple[nn.Module, dict]:
    network, info = read(name, *args, **kwargs, ignore_mismatched_sizes=True)  # the check raises, and names them
    check_base_parts(network, info["unexpected_keys"], info["mismatched_keys"], info["missing_keys"])
    network.revision = _revision_of(name, kwargs.get("revision"), kwargs.get("cache_dir"))
    settings = stored_settings(name, **hub_options(kwargs))
    if settings is not None:  # such as those of an adapter merged into it
        network.adapter_settings = settings.in_form(**network.tile_scaling.travelling)
    return network, info


def stored_settings(name: str, **hub) -> AdapterSettings | None:
    """Read the settings stored beside a whole network; None where there are none."""
    place = PRETRAINED.get(name, name)
    return AdapterSettings.from_pretrained(place, **hub) if _is_there(place, SETTINGS_FILE, **hub) else None


def _load_meta_checkpoint(read: Callable, path: str, **kwargs) -> tuple[nn.Module, dict]:
    sam_config, tensors = read_meta_checkpoint(path)
    parts = {name: sam_config.to_dict()[name] for name in SamConfig.sub_configs}
    config, kwargs = TopoSamConfig.from_dict(parts, return_unused_kwargs=True, **kwargs)
    weights = {f"sam.{name}": tensor for name, tensor in tensors.items()}
    network, info = read(None, config=config, state_dict=weights, **kwargs)
    network.name_or_path = network.config._name_or_path = path
    return network, info


def hub_options(kwargs: dict) -> dict:
    """Give those of the keywords that are the Hub's."""
    return {name: kwargs[name] for name in _HUB_OPTIONS if name in kwargs}


def _is_there(repository: str, name: str, **hub) -> bool:
    try:
        find_file(repository, name, **hub)
    except OSError:
        return False
    return True


def _revision_of(name_or_path: str, revision: str | None, cache_dir: str | Path | None) -> str | None:
    """Give the commit of a Hub repository that was just loaded, as the cache has it; a digest of a directory's weights.

    Every full run ends in a directory called `network`: the name does not tell them apart.
    """
    if Path(name_or_path).exists():
        digest = quick_digest(sorted(Path(name_or_path).glob("*.safetensors")))
        return digest and digest[:12]
    try:
        found = HfApi().resolve_revision(name_or_path, revision=revision, cache_dir=cache_dir, local_files_only=True)
    except RevisionResolutionError:  # a cache that notes no commits
        return None
    return found.resolved
