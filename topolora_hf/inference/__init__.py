"""From images to masks and pictures."""

from .centreline import Centreline
from .files import find_images
from .pictures import error_overlay, overlay, save_curves, save_samples
from .predictor import Prediction, Predictor

__all__ = [
    "Centreline",
    "Prediction",
    "Predictor",
    "error_overlay",
    "find_images",
    "overlay",
    "save_curves",
    "save_samples",
]
