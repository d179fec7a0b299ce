"""From pixels to a first mask without prompts: one file a family of SAMs.

Each has a class `Backbone`, with the methods of SAM's (`sam.py`). Files have the names of `FAMILIES`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .sam import Backbone


def backbone_of(family: str) -> "Backbone":
    """Give the backbone of a family: a name in `FAMILIES`."""
    return import_module(f".{family}", __name__).Backbone()
