"""What was seen in one image, and the files of it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from .files import save_png

if TYPE_CHECKING:
    from .centreline import Centreline

_PIXELS_A_LINE = 1000  # of the longer side, for each pixel that a centreline is drawn wider to either side


@dataclass
class Prediction:
    """What was seen in one image.

    Attributes:
        image: uint8 (H, W, 3), the image as it was read.
        probability: float32 (H, W) in [0, 1].
        threshold: The probability from which a pixel is foreground.
        warnings: Why the mask may be wrong, a sentence each.
    """

    __module__ = "topolora_hf"  # wherever the file lies

    image: np.ndarray
    probability: np.ndarray
    threshold: float
    warnings: tuple[str, ...] = ()

    @property
    def mask(self) -> np.ndarray:
        """bool (H, W)."""
        return self.probability >= self.threshold

    @cached_property
    def centreline(self) -> "Centreline":
        """The mask's skeleton, measured: for thin structures."""
        from .centreline import Centreline

        return Centreline.of_mask(self.mask)

    def overlay(self, centreline: bool = False) -> Image.Image:
        """Draw the mask over the image; or, for thin structures, its centreline, wide enough to be seen."""
        from ..pictures.overlay import overlay

        if not centreline:
            return overlay(self.image, self.mask)
        from scipy.ndimage import binary_dilation

        width = 1 + 2 * round(max(self.mask.shape) / _PIXELS_A_LINE)
        return overlay(self.image, binary_dilation(self.centreline.skeleton, np.ones((width, width))), opacity=1)

    def save_mask(self, path: str | Path) -> None:
        """Write an 8-bit PNG, 0 and 255, of the image's own size."""
        save_png(Image.fromarray(self.mask.astype(np.uint8) * 255), path)

    def save_probability(self, path: str | Path) -> None:
        """Write a 16-bit grey PNG, 0 to 65535 for 0 to 1."""
        save_png(Image.fromarray((self.probability * 65535).round().astype(np.uint16)), path)

    def save_overlay(self, path: str | Path, centreline: bool = False) -> None:
        """Write the overlay as a PNG."""
        save_png(self.overlay(centreline), path)
