"""From the name of an adapter to its files, each found, checked and read once."""

import warnings
from dataclasses import dataclass
from pathlib import Path

from .checks import check_adapter_config, check_adapter_tensors
from .location import find_file
from .names import ADAPTER_CONFIG, ADAPTER_WEIGHTS, public_base_name
from .settings import AdapterSettings

_COMMIT_DIGITS = 40


@dataclass(frozen=True)
class AdapterFiles:
    """An adapter whose files were checked. Wherever a path goes, it may go.

    Attributes:
        directory: where they lie; for an adapter on the Hub, in the local cache.
        settings: what `topolora_config.json` says.
        revision: of the base that it was trained on; None where that has none.
    """

    directory: str
    settings: AdapterSettings
    revision: str | None

    def __fspath__(self) -> str:
        return self.directory

    __str__ = __fspath__

    @property
    def commit(self) -> str | None:
        """The revision of a base on the Hub; None for other bases, which have a digest that the Hub does not know."""
        return self.revision if self.revision and len(self.revision) == _COMMIT_DIGITS else None

    def warn_unless_of(self, base: str, revision: str | None) -> None:
        """Warn that a base has another name or revision than the one that the adapter was trained on.

        It may fit in shape and predict nonsense. A base without a name gets no warning.
        """
        base, trained_on = public_base_name(base), public_base_name(self.settings.base)
        if base == trained_on and None not in (revision, self.revision) and revision != self.revision:
            base, trained_on = f"{base} of revision {revision}", f"{trained_on} of revision {self.revision}"
        if base and base != trained_on:
            warnings.warn(f"{self} was trained on the base {trained_on}; this one is {base}", stacklevel=3)


def read_adapter(name_or_path: "str | Path | AdapterFiles", **hub_options) -> AdapterFiles:
    """Find and check the files of an adapter, in a directory or on the Hub; what is read already stays as it is.

    Raises:
        FileNotFoundError: no adapter of this package is there.
        OSError: the Hub cannot be reached, or sent a file that is not whole.
        ValueError: its settings are not JSON, or are none that an adapter of this package has.
        AdapterMismatchError: its tensors cannot be read, or are not finite numbers; each is named.
    """
    if isinstance(name_or_path, AdapterFiles):
        return name_or_path
    settings = AdapterSettings.from_pretrained(name_or_path, **hub_options)
    tensors, config = (find_file(name_or_path, name, **hub_options) for name in (ADAPTER_WEIGHTS, ADAPTER_CONFIG))
    checked = check_adapter_config(config)
    check_adapter_tensors(tensors, checked["r"], settings.num_labels)
    return AdapterFiles(str(Path(config).parent), settings, checked.get("revision"))
