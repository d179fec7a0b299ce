"""What was seen in one image, and the files of it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..data.geotags import GeoTags, write_geotiff
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
        inside: bool (H, W), False where nothing is ever foreground; None: it may be everywhere.
        geotags: Of a GeoTIFF, where on the map it lies.
    """

    __module__ = "topolora_hf"  # wherever the file lies

    image: np.ndarray
    probability: np.ndarray
    threshold: float
    warnings: tuple[str, ...] = ()
    inside: np.ndarray | None = None
    geotags: GeoTags = ()

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
        """Write an 8-bit PNG, 0 and 255, of the image's own size.

        Of a GeoTIFF, write beside it a `.tif`, which lies at the same place; there, 127 is no data.
        """
        mask = self.mask.astype(np.uint8) * np.uint8(255)
        if self.geotags:
            has_holes = self.inside is not None and not self.inside.all()
            values = np.where(self.inside, mask, np.uint8(127)) if has_holes else mask
            write_geotiff(values, Path(path).with_suffix(".tif"), self.geotags, 127 if has_holes else None)
        save_png(Image.fromarray(mask), path)

    def save_probability(self, path: str | Path) -> None:
        """Write a 16-bit grey PNG, 0 to 65535 for 0 to 1."""
        save_png(Image.fromarray((self.probability * 65535).round().astype(np.uint16)), path)

    def save_overlay(self, path: str | Path, centreline: bool = False) -> None:
        """Write the overlay as a PNG."""
        save_png(self.overlay(centreline), path)
