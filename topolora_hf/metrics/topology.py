"""Scores of shape rather than area: the course of thin structures, the numbers of pieces and of holes."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from .masks import as_valid_mask, harmonic_mean, masks_inside_field_of_view

_EIGHT_NEIGHBOURS = np.ones((3, 3), int)
_FOUR_NEIGHBOURS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])


def cldice(prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None) -> float:
    """Centreline Dice with hard skeletons (clDice, Shit et al. 2021, arXiv 2003.07311, equations 1 and 2).

    The harmonic mean of topology precision, the share of the prediction's skeleton that lies inside the target, and
    topology sensitivity, the share of the target's skeleton that lies inside the prediction. Skeletons are
    scikit-image's (Zhang and Suen), one pixel wide and never empty for a mask that is not. Both masks are cut to
    `valid_mask` before: nothing outside bends a skeleton inside.

    Args:
        prediction, target: (H, W), bool or 0/1.
        valid_mask: (H, W), bool or 0/1, true where the image is to be scored; `None` scores all of it.

    Returns:
        In [0, 1]; 0 when exactly one of prediction and target is empty, NaN when both are.

    Raises:
        ValueError: An array is no mask, or the shapes differ.

    Example:
        Half of a line was found, all of what was found is true:

        >>> cldice([[0, 0, 0, 0], [1, 1, 0, 0]], [[0, 0, 0, 0], [1, 1, 1, 1]])
        0.6666666666666666
    """
    prediction, target = masks_inside_field_of_view(prediction, target, valid_mask)
    if not prediction.any() or not target.any():
        return 0.0 if prediction.any() or target.any() else float("nan")
    from skimage.morphology import skeletonize

    topology_precision = float(target[skeletonize(prediction)].mean())
    topology_sensitivity = float(prediction[skeletonize(target)].mean())
    return harmonic_mean(topology_precision, topology_sensitivity)


def betti0_error(prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None) -> float:
    """Difference in the number of connected pieces, |b0(P) - b0(T)|, pieces being 8-connected.

    A whole number, 0 or more; NaN when there is no pixel to score. Arguments and errors are `cldice`'s. The count says
    nothing of where the pieces lie, and specks of a single pixel count like vessels: it belongs beside an overlap,
    never in its place.

    >>> betti0_error([[1, 1, 0, 1]], [[1, 1, 1, 1]])  # a line that is broken in the prediction
    1.0
    """
    return _difference(_count_pieces, prediction, target, valid_mask)


def betti1_error(prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None) -> float:
    """Difference in the number of holes, |b1(P) - b1(T)|. Arguments, range and errors are `betti0_error`'s.

    A hole is a 4-connected piece of the background that does not reach the outside. This connectivity goes with
    8-connected foreground: with any other pairing a diagonal line would both connect and be crossed. What lies outside
    the field of view is background, all of it one piece.

    >>> betti1_error([[1, 1, 1], [1, 0, 0], [1, 1, 1]], [[1, 1, 1], [1, 0, 1], [1, 1, 1]])  # an open loop
    1.0
    """
    return _difference(_count_holes, prediction, target, valid_mask)


def _difference(
    count: Callable[[np.ndarray], int], prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None
) -> float:
    prediction, target = masks_inside_field_of_view(prediction, target, valid_mask)
    if not as_valid_mask(valid_mask, target.shape).any():
        return float("nan")
    return float(abs(count(prediction) - count(target)))


def _count_pieces(mask: np.ndarray, neighbours: np.ndarray = _EIGHT_NEIGHBOURS) -> int:
    from scipy.ndimage import label

    return label(mask, neighbours)[1]


def _count_holes(mask: np.ndarray) -> int:
    # The frame joins everything that reaches the edge with the outside, which is the one piece that is no hole.
    return _count_pieces(np.pad(~mask, 1, constant_values=True), _FOUR_NEIGHBOURS) - 1
