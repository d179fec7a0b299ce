"""Precision, recall and F1 that forgive small shifts, as roads and cracks are scored."""

import math

import numpy as np
from numpy.typing import ArrayLike

from .boundary import check_tolerance, within
from .masks import masks_inside_field_of_view
from .ratios import harmonic_mean


def relaxed_precision(
    prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None, tolerance_px: float = 2.0
) -> float:
    """Share of the predicted pixels that lie within `tolerance_px` of a true one.

    Relaxed precision and recall are those of road extraction (Mnih and Hinton 2010, "Learning to detect roads in
    high-resolution aerial images"); cracks are scored so within 2 pixels, as their masks are drawn no more exactly
    (Shi et al. 2016, "Automatic road crack detection using random structured forests", with CrackForest).

    Args:
        prediction: (H, W), bool or 0/1.
        target: (H, W), bool or 0/1.
        valid_mask: (H, W), bool or 0/1, true where the image is to be scored; `None` scores all of it.
        tolerance_px: Euclidean distance between pixel centres, in pixels, that still counts as a hit.

    Returns:
        float: In [0, 1]; NaN when nothing is predicted.

    Raises:
        ValueError: If an array is no mask, the shapes differ, or the tolerance is negative or NaN.

    Example:
        >>> relaxed_precision([[1, 0, 0, 0, 0, 1]], [[0, 0, 1, 0, 0, 0]])
        0.5
    """
    prediction, target = _checked(prediction, target, valid_mask, tolerance_px)
    return _share_near(prediction, target, tolerance_px)


def relaxed_recall(
    prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None, tolerance_px: float = 2.0
) -> float:
    """Share of the true pixels that lie within `tolerance_px` of a predicted one; NaN when the target is empty.

    Arguments and errors are those of `relaxed_precision`.

    Example:
        >>> relaxed_recall([[1, 0, 0, 0, 0, 1]], [[0, 0, 1, 0, 0, 0]])
        1.0
    """
    prediction, target = _checked(prediction, target, valid_mask, tolerance_px)
    return _share_near(target, prediction, tolerance_px)


def relaxed_f1(
    prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None, tolerance_px: float = 2.0
) -> float:
    """Harmonic mean of `relaxed_precision` and `relaxed_recall`, whose arguments and errors these are.

    Returns:
        float: In [0, 1]; 0 when exactly one of prediction and target is empty, NaN when both are.

    Example:
        >>> relaxed_f1([[1, 0, 0, 0]], [[0, 0, 1, 0]]), relaxed_f1([[1, 0, 0, 0]], [[0, 0, 1, 0]], tolerance_px=1)
        (1.0, 0.0)
    """
    prediction, target = _checked(prediction, target, valid_mask, tolerance_px)
    shares = _share_near(prediction, target, tolerance_px), _share_near(target, prediction, tolerance_px)
    if any(map(math.isnan, shares)):
        return float("nan") if all(map(math.isnan, shares)) else 0.0
    return harmonic_mean(*shares)


def _checked(prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None, tolerance_px: float):
    check_tolerance(tolerance_px)
    return masks_inside_field_of_view(prediction, target, valid_mask)


def _share_near(mask: np.ndarray, other: np.ndarray, radius: float) -> float:
    """Of a mask's pixels, those at most `radius` away from one of the other's; NaN when it has none."""
    return float(within(radius, other)[mask].mean()) if mask.any() else float("nan")
