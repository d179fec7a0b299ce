"""Scores of the order that probabilities put the pixels in, whatever the threshold: AUROC and average precision.

Both are computed exactly, ties included, from the sorted probabilities of the foreground and of the background.
"""

import numpy as np
from numpy.typing import ArrayLike

from .masks import pixels_inside_field_of_view


def auroc(probability: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None) -> float:
    """Area under the receiver operating characteristic, over the pixels of the field of view.

    The chance that a foreground pixel drawn at random has a higher probability than a background pixel drawn at
    random, ties counting half (the Mann-Whitney statistic; Hanley and McNeil 1982).

    Args:
        probability: (H, W), numbers in [0, 1].
        target: (H, W), bool or 0/1.
        valid_mask: (H, W), bool or 0/1, true where the image is to be scored; `None` scores all of it.

    Returns:
        In [0, 1], 0.5 where nothing is told apart; NaN when the target is empty or full.

    Raises:
        ValueError: The probabilities leave [0, 1], an array is no mask, or the shapes differ.

    >>> auroc([[0.9, 0.4], [0.4, 0.1]], [[1, 1], [0, 0]])
    0.875
    """
    return auroc_and_average_precision(probability, target, valid_mask)[0]


def average_precision(probability: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None) -> float:
    """Average precision, the area under the precision-recall curve as a step function, over the field of view.

    The sum over thresholds of (rise in recall) x precision, without interpolation. As recall rises only where a
    foreground pixel enters, this is the mean over foreground pixels of the precision at the pixel's own probability:
    in (0, 1], the foreground's share of the pixels if nothing is told apart, NaN if the target is empty. Arguments and
    errors are `auroc`'s.

    >>> average_precision([[0.9, 0.4], [0.4, 0.1]], [[1, 1], [0, 0]])
    0.8333333333333333
    """
    return auroc_and_average_precision(probability, target, valid_mask)[1]


def auroc_and_average_precision(
    probability: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None
) -> tuple[float, float]:
    """Both from one sorting of the pixels, which is what they spend their time on."""
    values, labels = pixels_inside_field_of_view(probability, target, valid_mask)
    foreground, background = np.sort(values[labels]), np.sort(values[~labels])
    if not foreground.size:
        return float("nan"), float("nan")
    # For every foreground pixel: background pixels below it and not above it; pixels of either kind from it upwards.
    below, not_above = (np.searchsorted(background, foreground, side) for side in ("left", "right"))
    hits = foreground.size - np.searchsorted(foreground, foreground, "left")
    precisions = hits / (hits + background.size - below)
    area = float("nan")
    if background.size:
        # Counts are summed as integers: exact, so that mirrored images score the same to the last bit.
        area = int((below + not_above).sum()) / (2 * foreground.size * background.size)
    return area, float(precisions.mean())
