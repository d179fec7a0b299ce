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
        sides, corners = _steps(skeleton)
        junctions = ndimage.label(_junction_pixels(skeleton), _AROUND)[1]
        tips = skeleton & (_neighbours(skeleton) <= 1)
        length = sides + math.sqrt(2) * corners
        return cls(skeleton, length, junctions, int(tips.sum()), _mean_width(mask, tips, length))

    def save(self, path: str | Path) -> None:
        """Write the numbers as JSON (NaN as null) and, beside it, the skeleton as a PNG of 0 and 255."""
        path = Path(path)
        numbers = {name: getattr(self, name) for name in ("length", "branch_points", "end_points", "mean_width")}
        save_png(Image.fromarray(self.skeleton.astype(np.uint8) * 255), path.with_suffix(".png"))
        write_json(path, numbers)


def _steps(skeleton: np.ndarray) -> tuple[int, int]:
    """Pairs of neighbours, by a side and by a corner; a corner is no step where sides lead round it."""
    right = skeleton[:, :-1] & skeleton[:, 1:]
    down = skeleton[:-1] & skeleton[1:]
    falling = skeleton[:-1, :-1] & skeleton[1:, 1:] & ~skeleton[:-1, 1:] & ~skeleton[1:, :-1]
    rising = skeleton[:-1, 1:] & skeleton[1:, :-1] & ~skeleton[:-1, :-1] & ~skeleton[1:, 1:]
    return int(right.sum() + down.sum()), int(falling.sum() + rising.sum())


def _junction_pixels(skeleton: np.ndarray) -> np.ndarray:
    """Where three or more branches leave a pixel, or a block of two by two, which has no middle pixel."""
    single = skeleton & (_branches(skeleton, 1) >= 3)
    block = skeleton[:-1, :-1] & skeleton[:-1, 1:] & skeleton[1:, :-1] & skeleton[1:, 1:]
    corner = np.pad(block, ((0, 1), (0, 1))) & (_branches(skeleton, 2) >= 3)
    return single | ndimage.binary_dilation(corner, np.ones((2, 2)), origin=-1)


def _branches(skeleton: np.ndarray, side: int) -> np.ndarray:
    """How many branches leave the square whose upper left is each pixel: changes from off to on around it."""
    padded = np.pad(skeleton, ((1, side), (1, side)))
    height, width = skeleton.shape
    along = range(side + 1)
    top, right = [(0, x) for x in along], [(y, side + 1) for y in along]
    bottom, left = [(side + 1, side + 1 - x) for x in along], [(side + 1 - y, 0) for y in along]
    around = [padded[y : y + height, x : x + width] for y, x in (*top, *right, *bottom, *left)]
    return sum((~here & there).astype(np.uint8) for here, there in zip(around, [*around[1:], around[0]], strict=True))


def _neighbours(skeleton: np.ndarray) -> np.ndarray:
    return ndimage.convolve(skeleton.astype(np.uint8), _AROUND, mode="constant") - skeleton


def _mean_width(mask: np.ndarray, tips: np.ndarray, length: float) -> float:
    """Area over length, which thinning cut short by about half the structure's width at each of its ends."""
    if not tips.any() and not length:
        return float("nan")
    distance = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    return float(mask.sum() / (length + distance[tips].sum()))
