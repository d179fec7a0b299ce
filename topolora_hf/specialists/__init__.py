"""Networks trained from scratch for one task, to compare with: the same data, loss, loop and evaluation as ours."""

from .files import is_specialist, load_specialist, save_specialist, specialist_settings
from .networks import SPECIALISTS, Specialist, build_specialist

__all__ = [
    "SPECIALISTS",
    "Specialist",
    "build_specialist",
    "is_specialist",
    "load_specialist",
    "save_specialist",
    "specialist_settings",
]
