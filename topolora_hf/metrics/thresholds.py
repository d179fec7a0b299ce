"""What every threshold would give: the precision-recall curve of an image or a set."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .masks import pixels_inside_field_of_view, ratios

# Quotients, not multiples of a step: 0.42 is exactly the 0.42 that is written in a settings file.
THRESHOLDS = np.arange(201) / 200


@dataclass(frozen=True, eq=False)
class ThresholdCounts:
    """Pixels counted at every threshold, a few kilobytes an image of any size; added up over images with `+`.

    Attributes:
        thresholds: (T,) float, ascending in [0, 1].
        hits: (T,) int, foreground pixels whose probability is at least the threshold.
        predicted: (T,) int, pixels of either kind whose probability is at least the threshold.
        true: Foreground pixels.
    """

    thresholds: np.ndarray
    hits: np.ndarray
    predicted: np.ndarray
    true: int

    @property
    def precision(self) -> np.ndarray:
        """(T,) hits / predicted, NaN where nothing is predicted."""
        return ratios(self.hits, self.predicted)

    @property
    def recall(self) -> np.ndarray:
        """(T,) hits / true, NaN where nothing is true."""
        return ratios(self.hits, np.full_like(self.hits, self.true))

    @property
    def dice(self) -> np.ndarray:
        """(T,) 2 hits / (predicted + true), NaN where both are empty."""
        return ratios(2 * self.hits, self.predicted + self.true)

    def __add__(self, other: "ThresholdCounts") -> "ThresholdCounts":
        if not np.array_equal(self.thresholds, other.thresholds):
            raise ValueError("counts at different thresholds cannot be added up")
        hits, predicted = self.hits + other.hits, self.predicted + other.predicted
        return ThresholdCounts(self.thresholds, hits, predicted, self.true + other.true)


def threshold_counts(
    probability: ArrayLike,
    target: ArrayLike,
    valid_mask: ArrayLike | None = None,
    thresholds: Sequence[float] | np.ndarray = THRESHOLDS,
) -> ThresholdCounts:
    """Count hits and predicted pixels of one image at every threshold, from one histogram.

    The counts are exactly those of `probability >= threshold`.

    Args:
        probability: (H, W), numbers in [0, 1].
        target: (H, W), bool or 0/1.
        valid_mask: (H, W), bool or 0/1, true where the image is to be scored; `None` scores all of it.
        thresholds: (T,), ascending in [0, 1]; steps of 0.005 by default.

    Raises:
        ValueError: The thresholds leave [0, 1] or do not ascend, the probabilities leave [0, 1], an array is no mask,
            or the shapes differ.

    >>> counts = threshold_counts([[0.9, 0.6], [0.4, 0.1]], [[1, 0], [1, 0]], thresholds=[0.0, 0.3, 0.5])
    >>> counts.precision.tolist(), counts.recall.tolist()
    ([0.5, 0.6666666666666666, 0.5], [1.0, 1.0, 0.5])
    """
    thresholds = np.asarray(thresholds, float)
    inside = thresholds.ndim == 1 and thresholds.size and ((thresholds >= 0) & (thresholds <= 1)).all()
    if not inside or not (np.diff(thresholds) > 0).all():
        raise ValueError(f"thresholds must be numbers that ascend in [0, 1], got {thresholds}")
    values, labels = pixels_inside_field_of_view(probability, target, valid_mask)
    # In the probabilities' own precision, as `probability >= 0.42` compares them.
    reached = np.searchsorted(thresholds.astype(values.dtype), values, side="right")
    hits, predicted = (
        np.bincount(numbers, minlength=thresholds.size + 1)[::-1].cumsum()[::-1][1:]
        for numbers in (reached[labels], reached)
    )
    return ThresholdCounts(thresholds, hits, predicted, int(np.count_nonzero(labels)))
