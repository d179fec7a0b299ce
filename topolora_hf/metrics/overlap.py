"""Overlap of a predicted and a true mask of one image: Dice, IoU, precision, recall."""

import numpy as np
from numpy.typing import ArrayLike

from .masks import masks_inside_field_of_view, ratio


def dice(prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None) -> float:
    """Dice coefficient, 2 |P and T| / (|P| + |T|), the F1 score of the pixels.

    Args:
        prediction, target: (H, W), bool or 0/1.
        valid_mask: (H, W), bool or 0/1, true where the image is to be scored; `None` scores all of it.

    Returns:
        In [0, 1]; NaN if prediction and target are both empty.

    Raises:
        ValueError: An array is no mask, or the shapes differ.

    >>> dice([[1, 1], [0, 0]], [[1, 0], [0, 0]])
    0.6666666666666666
    """
    hits, predicted, true = _areas(prediction, target, valid_mask)
    return ratio(2 * hits, predicted + true)


def iou(prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None) -> float:
    """Intersection over union, |P and T| / |P or T|, the Jaccard index. Arguments, range and errors are `dice`'s.

    >>> iou([[1, 1], [0, 0]], [[1, 0], [0, 0]])
    0.5
    """
    hits, predicted, true = _areas(prediction, target, valid_mask)
    return ratio(hits, predicted + true - hits)


def precision(prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None) -> float:
    """Share of the predicted pixels that are true, |P and T| / |P|; NaN if the prediction is empty. See `dice`.

    >>> precision([[1, 1], [0, 0]], [[1, 0], [1, 1]])
    0.5
    """
    hits, predicted, _ = _areas(prediction, target, valid_mask)
    return ratio(hits, predicted)


def recall(prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None) -> float:
    """Share of the true pixels that are found, |P and T| / |T|, or sensitivity; NaN if the target is empty. See `dice`.

    >>> recall([[1, 1], [0, 0]], [[1, 0], [1, 1]])
    0.3333333333333333
    """
    hits, _, true = _areas(prediction, target, valid_mask)
    return ratio(hits, true)


def _areas(prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None) -> tuple[int, int, int]:
    """Numbers of pixels: in both masks, in the prediction, in the target."""
    prediction, target = masks_inside_field_of_view(prediction, target, valid_mask)
    return tuple(int(np.count_nonzero(mask)) for mask in (prediction & target, prediction, target))
