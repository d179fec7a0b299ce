"""What was seen in one image, and the files of it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..data.place import Place
from ..geo.geotiff import write_geotiff
from ..metrics.classes import any_class, class_masks, label_map, label_values
from .files import save_png

if TYPE_CHECKING:
    from .centreline import Centreline

_PIXELS_A_LINE = 1000  # of the longer side, for each pixel that a centreline is drawn wider to either side


@dataclass
class Prediction:
    """What was seen in one image.

    Attributes:
        image: uint8 (H, W, 3), the image as it was read.
        probabilities: float32 (K, H, W) in [0, 1], one map a class.
        thresholds: The probability from which a pixel is foreground, one a class.
        labels: Names of the K classes.
        exclusive: No pixel belongs to two classes.
        warnings: Why the mask may be wrong, a sentence each.
        inside: bool (H, W), False where nothing is ever foreground; None: it may be everywhere.
        place: Where on the map it lies; None: nothing says so.
    """

    __module__ = "topolora_hf"  # wherever the file lies

    image: np.ndarray
    probabilities: np.ndarray
    thresholds: tuple[float, ...]
    labels: tuple[str, ...] = ("foreground",)
    exclusive: bool = False
    warnings: tuple[str, ...] = ()
    inside: np.ndarray | None = None
    place: Place | None = None

    def __post_init__(self):
        if not len(self.probabilities) == len(self.thresholds) == len(self.labels):
            raise ValueError(
                f"probabilities of shape {self.probabilities.shape} and {len(self.thresholds)} thresholds do not fit "
                f"{len(self.labels)} labels: expected (K, H, W) and K of each"
            )

    @cached_property
    def masks(self) -> np.ndarray:
        """bool (K, H, W), one mask a class; of exclusive classes the likeliest, where there is any: `class_masks`."""
        return class_masks(self.probabilities, self.thresholds, self.exclusive)

    @property
    def probability(self) -> np.ndarray:
        """float32 (H, W), of any class: the sum over exclusive ones, the largest of others."""
        return any_class(self.probabilities, self.exclusive)

    @property
    def mask(self) -> np.ndarray:
        """bool (H, W), any class."""
        return self.masks.any(0)

    @property
    def label_map(self) -> np.ndarray:
        """uint8 (H, W): 0 is background, k the k-th class; sets of overlapping classes have values after those."""
        return label_map(self.masks, label_values(self.labels, self.exclusive))

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

        Of a georeferenced image, write beside it a `.tif`, which lies at the same place; there, 127 is no data.
        """
        mask = self.mask.astype(np.uint8) * np.uint8(255)
        if self.place:
            has_holes = self.inside is not None and not self.inside.all()
            values = np.where(self.inside, mask, np.uint8(127)) if has_holes else mask
            write_geotiff(Path(path).with_suffix(".tif"), values, self.place, nodata=127 if has_holes else None)
        save_png(Image.fromarray(mask), path)

    def save_probability(self, path: str | Path) -> None:
        """Write a 16-bit grey PNG, 0 to 65535 for 0 to 1."""
        save_png(Image.fromarray((self.probability * 65535).round().astype(np.uint16)), path)

    def save_overlay(self, path: str | Path, centreline: bool = False) -> None:
        """Write the overlay as a PNG."""
        save_png(self.overlay(centreline), path)
