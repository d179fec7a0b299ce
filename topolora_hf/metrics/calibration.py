"""Whether probabilities mean what they say: reliability data and the expected calibration error."""

from dataclasses import dataclass
from operator import add

import numpy as np
from numpy.typing import ArrayLike

from .masks import pixels_inside_field_of_view, ratio, ratios


@dataclass(frozen=True, eq=False)
class Reliability:
    """Pixels counted by their predicted probability in B bins of equal width; added up over images with `+`.

    Attributes:
        pixels: (B,) int, pixels with b / B <= probability < (b + 1) / B; probability 1 falls into the last bin.
        probability_sum: (B,) float, the sum of their probabilities.
        foreground: (B,) int, those of them that are foreground in the target.
    """

    pixels: np.ndarray
    probability_sum: np.ndarray
    foreground: np.ndarray

    @property
    def mean_probability(self) -> np.ndarray:
        """(B,) what the pixels of each bin were predicted to be, NaN where there are none."""
        return ratios(self.probability_sum, self.pixels)

    @property
    def foreground_fraction(self) -> np.ndarray:
        """(B,) what they turned out to be, NaN where there are none."""
        return ratios(self.foreground, self.pixels)

    @property
    def error(self) -> float:
        """The expected calibration error: mean over pixels of |mean probability - foreground fraction| of their bin."""
        return ratio(float(np.abs(self.probability_sum - self.foreground).sum()), int(self.pixels.sum()))

    def __add__(self, other: "Reliability") -> "Reliability":
        if len(self.pixels) != len(other.pixels):
            raise ValueError(f"{len(self.pixels)} bins and {len(other.pixels)} bins cannot be added up")
        return Reliability(*map(add, vars(self).values(), vars(other).values()))


def reliability(
    probability: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None, bins: int = 15
) -> Reliability:
    """Count the pixels of the field of view by predicted probability. Arguments and errors are `ece`'s.

    >>> data = reliability([[0.1, 0.2], [0.7, 0.9]], [[0, 0], [0, 1]], bins=2)
    >>> data.pixels.tolist(), data.foreground.tolist()
    ([2, 2], [0, 1])
    """
    return _count(*pixels_inside_field_of_view(probability, target, valid_mask), bins)


def ece(probability: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None, bins: int = 15) -> float:
    """Expected calibration error over all pixels of the field of view (Naeini et al. 2015; Guo et al. 2017).

    It compares the probability of foreground with the share of foreground, bin by bin. Where structures are thin,
    nearly all pixels are easy background, and it is small whatever the structures' own probabilities are worth: see
    `ece_foreground`.

    In [0, 1]; NaN when there is no pixel to score. Arguments and errors are `auroc`'s; `bins`, of equal width, are at
    least one.

    >>> ece([[0.25, 0.25], [0.25, 0.25]], [[1, 0], [0, 0]]), ece([[1.0, 1.0], [0.0, 0.0]], [[1, 0], [0, 0]])
    (0.0, 0.25)
    """
    return reliability(probability, target, valid_mask, bins).error


def ece_foreground(
    probability: ArrayLike,
    target: ArrayLike,
    valid_mask: ArrayLike | None = None,
    threshold: float = 0.5,
    bins: int = 15,
    prediction: ArrayLike | None = None,
) -> float:
    """`ece` over the foreground alone: pixels that are foreground in the target, or predicted to be.

    Predicted are those that have at least the threshold, or, where it is given, those of the mask `prediction`.

    Such pixels are chosen by their label too, so a perfectly calibrated map that misses something does not score 0.
    Compare models by it; do not read it as a distance from perfection. It is NaN if no pixel is foreground in either.

    >>> ece_foreground([[1.0, 1.0], [0.0, 0.0]], [[1, 0], [0, 0]])
    0.5
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must lie in [0, 1], got {threshold}")
    values, labels = pixels_inside_field_of_view(probability, target, valid_mask)
    predicted = values >= threshold
    if prediction is not None:
        predicted = pixels_inside_field_of_view(prediction, target, valid_mask)[0] == 1
    foreground = labels | predicted
    return _count(values[foreground], labels[foreground], bins).error


def _count(values: np.ndarray, labels: np.ndarray, bins: int) -> Reliability:
    if bins < 1:
        raise ValueError(f"bins must be 1 or more, got {bins}")
    numbers = np.minimum((values * bins).astype(np.intp), bins - 1)
    pixels, foreground = (np.bincount(part, minlength=bins) for part in (numbers, numbers[labels]))
    return Reliability(pixels, np.bincount(numbers, weights=values, minlength=bins), foreground)
