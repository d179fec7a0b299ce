"""What every threshold would give: the precision-recall curve of an image or a set."""

from dataclasses import dataclass
from operator import add
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from .masks import pixels_inside_field_of_view, ratios

# Quotients, not multiples of a step: 0.42 is exactly the 0.42 that is written in a settings file.
THRESHOLDS = np.arange(201) / 200


@dataclass(frozen=True, eq=False)
class ThresholdCounts:
    """Pixels counted at every threshold, a few kilobytes an image of any size; added up over images with `+`.

    Attributes:
        thresholds: (T,) float, from 0 to 1 in steps of 0.005.
        hits: (T,) int, foreground pixels whose probability is at least the threshold.
        predicted: (T,) int, pixels of either kind whose probability is at least the threshold.
        true: Foreground pixels.
    """

    thresholds: ClassVar[np.ndarray] = THRESHOLDS
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
        return ThresholdCounts(*map(add, vars(self).values(), vars(other).values()))


def threshold_counts(probability: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None) -> ThresholdCounts:
    """Count hits and predicted pixels of one image, exactly those of `probability >= threshold`, from one histogram.

    Arguments and errors are `auroc`'s.

    >>> counts = threshold_counts([[0.9, 0.6], [0.4, 0.1]], [[1, 0], [1, 0]])
    >>> counts.precision[[0, 60, 100]].tolist(), counts.recall[[0, 60, 100]].tolist()  # at 0, 0.3 and 0.5
    ([0.5, 0.6666666666666666, 0.5], [1.0, 1.0, 0.5])
    """
    values, labels = pixels_inside_field_of_view(probability, target, valid_mask)
    # In the probabilities' own precision, as `probability >= 0.42` compares them.
    reached = np.searchsorted(THRESHOLDS.astype(values.dtype), values, side="right")
    hits, predicted = (
        np.bincount(numbers, minlength=THRESHOLDS.size + 1)[::-1].cumsum()[::-1][1:]
        for numbers in (reached[labels], reached)
    )
    return ThresholdCounts(hits, predicted, int(np.count_nonzero(labels)))
