"""The centreline of a mask of thin structures, measured."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.morphology import skeletonize

from ..files import write_json
from .files import save_png

_AROUND = np.ones((3, 3), int)


@dataclass(frozen=True)
class Centreline:
    """The skeleton of a mask as a graph of pixels, neighbours by a side or a corner.

    Attributes:
        skeleton: bool (H, W), one pixel wide (Zhang and Suen 1984, as scikit-image thins).
        length: pixels along the skeleton: a step by a side counts 1, one by a corner the square root of 2.
        branch_points: places at which three or more branches meet; pixels of one junction count once.
        end_points: skeleton pixels with one neighbour, or none.
        mean_width: pixels across, the mask's area over the skeleton's length, half a width added at each of its ends;
            NaN where there is no skeleton.
    """

    __module__ = "topolora_hf"  # wherever the file lies

    skeleton: np.ndarray
    length: float
    branch_points: int
    end_points: int
    mean_width: float

    @classmethod
    def of_mask(cls, mask: np.ndarray) -> "Centreline":
        """Thin and measure a mask, bool (H, W).

        >>> mask = np.zeros((20, 50), bool)
        >>> mask[8:13, 5:45] = True
        >>> line = Centreline.of_mask(mask)
        >>> line.branch_points, line.end_points, round(line.mean_width, 1)
        (0, 2, 5.0)

        Raises:
            ValueError: The mask has another shape or dtype.
        """
        mask = np.asarray(mask)
        if mask.ndim != 2 or mask.dtype != bool:
            raise ValueError(f"expected a mask, bool (H, W); got {mask.dtype} {mask.shape}")
        skeleton = skeletonize(mask)
        junctions = ndimage.label(_junction_pixels(skeleton), _AROUND)[1]
        neighbours = ndimage.convolve(skeleton.astype(np.uint8), _AROUND, mode="constant") - skeleton
        tips = skeleton & (neighbours <= 1)
        length, width = _length(skeleton), math.nan
        if tips.any() or length:  # thinning cut the line short by about half the width at each of its ends
            distance = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
            width = float(mask.sum() / (length + distance[tips].sum()))
        return cls(skeleton, length, junctions, int(tips.sum()), width)

    @property
    def numbers(self) -> dict[str, float]:
        """What was measured, by name."""
        return {name: getattr(self, name) for name in ("length", "branch_points", "end_points", "mean_width")}

    def save(self, path: str | Path) -> None:
        """Write the numbers as JSON (NaN as null) and, beside it, the skeleton as a PNG of 0 and 255."""
        path = Path(path)
        save_png(Image.fromarray(self.skeleton.astype(np.uint8) * 255), path.with_suffix(".png"))
        write_json(path, self.numbers)


def _length(skeleton: np.ndarray) -> float:
    """Steps from pixel to neighbour, by a side and by a corner; a corner is no step where sides lead round it."""
    sides = (skeleton[:, :-1] & skeleton[:, 1:]).sum() + (skeleton[:-1] & skeleton[1:]).sum()
    falling = skeleton[:-1, :-1] & skeleton[1:, 1:] & ~skeleton[:-1, 1:] & ~skeleton[1:, :-1]
    rising = skeleton[:-1, 1:] & skeleton[1:, :-1] & ~skeleton[:-1, :-1] & ~skeleton[1:, 1:]
    return int(sides) + math.sqrt(2) * int(falling.sum() + rising.sum())


def _junction_pixels(skeleton: np.ndarray) -> np.ndarray:
    """Where three or more branches leave a pixel, or a block of two by two, which has no middle pixel."""
    single = skeleton & (_branches(skeleton, 1) >= 3)
    block = skeleton[:-1, :-1] & skeleton[:-1, 1:] & skeleton[1:, :-1] & skeleton[1:, 1:]
    corner = np.pad(block, ((0, 1), (0, 1))) & (_branches(skeleton, 2) >= 3)
    return single | ndimage.binary_dilation(corner, np.ones((2, 2)), origin=-1)


def _branches(skeleton: np.ndarray, side: int) -> np.ndarray:
    """How many branches leave the square whose upper left is each pixel: changes from off to on around it."""
    padded, (height, width) = np.pad(skeleton, ((1, side), (1, side))), skeleton.shape
    along, far = range(side + 1), side + 1
    ring = [(0, x) for x in along] + [(y, far) for y in along]
    ring += [(far, far - x) for x in along] + [(far - y, 0) for y in along]
    around = [padded[y : y + height, x : x + width] for y, x in ring]
    return sum((~here & there).astype(np.uint8) for here, there in zip(around, [*around[1:], around[0]], strict=True))
