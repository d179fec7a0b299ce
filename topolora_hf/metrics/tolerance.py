"""Scores that forgive small shifts: relaxed precision, recall and F1 of areas, and the boundary F-score of outlines.

`tolerance_px` is the Euclidean distance between pixel centres, in pixels, that still counts as a match. Arguments and
errors are those of `dice`; a tolerance that is negative or NaN is a ValueError, too.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from .masks import harmonic_mean, masks_inside_field_of_view


def relaxed_precision(
    prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None, tolerance_px: float = 2.0
) -> float:
    """Share of the predicted pixels that lie within `tolerance_px` of a true one; NaN when nothing is predicted.

    Roads are scored so (Mnih and Hinton 2010, "Learning to detect roads in high-resolution aerial images"), and cracks
    within 2 pixels (Shi et al. 2016, "Automatic road crack detection using random structured forests").

    >>> relaxed_precision([[1, 0, 0, 0, 0, 1]], [[0, 0, 1, 0, 0, 0]])
    0.5
    """
    prediction, target = _checked(prediction, target, valid_mask, tolerance_px)
    return _share_near(prediction, target, tolerance_px)


def relaxed_recall(
    prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None, tolerance_px: float = 2.0
) -> float:
    """Share of the true pixels that lie within `tolerance_px` of a predicted one; NaN when the target is empty.

    >>> relaxed_recall([[1, 0, 0, 0, 0, 1]], [[0, 0, 1, 0, 0, 0]])
    1.0
    """
    prediction, target = _checked(prediction, target, valid_mask, tolerance_px)
    return _share_near(target, prediction, tolerance_px)


def relaxed_f1(
    prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None, tolerance_px: float = 2.0
) -> float:
    """Harmonic mean of `relaxed_precision` and `relaxed_recall`, in [0, 1].

    It is 0 when exactly one of prediction and target is empty, NaN when both are.

    >>> relaxed_f1([[1, 0, 0, 0]], [[0, 0, 1, 0]]), relaxed_f1([[1, 0, 0, 0]], [[0, 0, 1, 0]], tolerance_px=1)
    (1.0, 0.0)
    """
    return _f1(*_checked(prediction, target, valid_mask, tolerance_px), tolerance_px)


def bfscore(
    prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None, tolerance_px: float = 1.0
) -> float:
    """Boundary F-score (BF score, Csurka et al. 2013, "What is a good evaluation measure for semantic segmentation?").

    `relaxed_f1` of the boundaries. A mask's boundary is its foreground pixels with a 4-neighbour in the background;
    what lies outside the image or the field of view is background, so a structure that the edge cuts has a boundary
    along the cut, in prediction and target alike.

    >>> off, line = [[1, 1, 1], [0, 0, 0]], [[0, 0, 0], [1, 1, 1]]
    >>> bfscore(off, line), bfscore(off, line, tolerance_px=0)
    (1.0, 0.0)
    """
    masks = _checked(prediction, target, valid_mask, tolerance_px)
    return _f1(*map(outline, masks), tolerance_px)


def _checked(prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None, tolerance_px: float):
    if not tolerance_px >= 0:
        raise ValueError(f"tolerance_px must be 0 or more, got {tolerance_px}")
    return masks_inside_field_of_view(prediction, target, valid_mask)


def _f1(prediction: np.ndarray, target: np.ndarray, radius: float) -> float:
    if not prediction.any() or not target.any():
        return 0.0 if prediction.any() or target.any() else float("nan")
    return harmonic_mean(_share_near(prediction, target, radius), _share_near(target, prediction, radius))


def _share_near(mask: np.ndarray, other: np.ndarray, radius: float) -> float:
    """Of a mask's pixels, those at most `radius` away from one of the other's; NaN when it has none."""
    return float(_within(radius, other)[mask].mean()) if mask.any() else float("nan")


def outline(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask with a 4-neighbour outside it."""
    framed = np.pad(mask, 1)
    return mask & ~(framed[:-2, 1:-1] & framed[2:, 1:-1] & framed[1:-1, :-2] & framed[1:-1, 2:])


def _within(radius: float, mask: np.ndarray) -> np.ndarray:
    """All pixels (H, W) at most `radius` away from a true one.

    A circle is a stack of row segments, and whether a segment holds a true pixel is one difference of running counts:
    at the usual tolerances ten times faster than a distance transform, and as exact.
    """
    height, width = mask.shape
    reach = int(min(radius, max(mask.shape)))
    framed = np.pad(mask, ((reach, reach), (reach + 1, reach)))
    counts = framed.cumsum(axis=1, dtype=np.int32)
    near = np.zeros_like(mask)
    for row in range(-reach, reach + 1):
        half = max(column for column in range(reach + 1) if math.hypot(row, column) <= radius)
        shifted = counts[reach + row : reach + row + height]
        near |= shifted[:, reach + 1 + half :][:, :width] != shifted[:, reach - half :][:, :width]
    return near
