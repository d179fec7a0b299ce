"""From a name on the command line to a network that `Predictor` takes."""

from torch import nn

from ..adapters.loading import load_adapter


def load_network(name: str, base: str | None = None) -> nn.Module:
    """Load an adapter on its base or on the one given, or a base as it comes; as `load_adapter`."""
    return load_adapter(name, base=base)
