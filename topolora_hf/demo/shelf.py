"""The adapters that a page offers, each loaded when it is first asked for."""

import threading
from collections.abc import Sequence

from torch import nn

from ..adapter_format.names import full_base_name
from ..adapter_format.reading import AdapterFiles
from ..adapter_format.settings import AdapterSettings
from ..adapters.adapted import AdaptedNetwork
from ..adapters.loading import load_adapter
from ..inference.predictor import Prediction, Predictor
from ..network.loading import find


class AdapterShelf:
    """Adapters by name. Those of one base, its weights and form the same, share it in memory, and are switched to.

    Args:
        names: Directories or Hub ids of adapters; embedded bases such as `"tiny"`; directories of full networks.
        base: The base of all adapters; by default the one that each names.
        dtype: As for `Predictor`.

    Raises:
        ValueError: There is no name, or one twice.
    """

    def __init__(self, names: Sequence[str], base: str | None = None, dtype: str = "auto"):
        if not names or len(set(names)) != len(names):
            raise ValueError(f"expected the names of adapters, each once; got {', '.join(names) or 'none'}")
        self.names = list(names)
        self._base, self._dtype = base, dtype
        self._predictors: dict[str, Predictor] = {}
        self._shared: dict[tuple, AdaptedNetwork] = {}
        self._lock = threading.Lock()  # switching an adapter and running it are one step

    def settings(self, name: str) -> AdapterSettings:
        """The settings of an adapter, which is loaded for that.

        Raises:
            KeyError: The name is not one of the shelf's.
            AdapterMismatchError, OSError, ValueError: It cannot be loaded; see `load_network`.
        """
        with self._lock:
            return self._predictor(name).settings

    def predict(self, name: str, image) -> Prediction:
        """Segment what `Predictor` takes, one at a time, whichever thread asks. It raises what `settings` does."""
        with self._lock:
            predictor = self._predictor(name)
            if isinstance(predictor.model, AdaptedNetwork):
                predictor.model.set_adapter(self._adapter_name(name))
            return predictor(image)

    def _predictor(self, name: str) -> Predictor:
        if name not in self.names:
            raise KeyError(f"no adapter {name!r} here, but {', '.join(self.names)}")
        if name not in self._predictors:
            model, settings = self._load(name)
            self._predictors[name] = Predictor(model, settings, dtype=self._dtype)
        return self._predictors[name]

    def _load(self, name: str) -> tuple[nn.Module, AdapterSettings]:
        found, alias = find(name), self._adapter_name(name)
        if not isinstance(found, AdapterFiles):
            network = load_adapter(found)
            return network, network.adapter_settings
        base = full_base_name(self._base or found.settings.base)
        # What `set_adapter` switches is left out: sizes and the number of classes travel in the adapter.
        switched = {"image_size", "tile_size", "num_labels"}
        form = tuple(value for name, value in vars(found.settings.form).items() if name not in switched)
        key = base, None if self._base else found.revision, form
        if key in self._shared:
            self._shared[key].load_adapter(found, adapter_name=alias)
        else:
            self._shared[key] = load_adapter(found, base=self._base, adapter_name=alias)
        return self._shared[key], found.settings

    def _adapter_name(self, name: str) -> str:
        """PEFT makes modules of adapters' names, so they may not hold dots."""
        return f"adapter{self.names.index(name)}"
