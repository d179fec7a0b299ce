"""Temperature scaling: one number, fitted on validation images, that makes probabilities mean what they say."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from .masks import pixels_inside_field_of_view

TEMPERATURES = (0.1, 10.0)  # what is searched: beyond lie images on which nothing can be learned of certainty
_CERTAIN = 16.0  # logits end here: nearer to 1 there is no float32
_BINS = 2048


@dataclass(frozen=True, eq=False)
class LogitCounts:
    """What temperature fitting needs of the pixels of an image, gathered into B bins of logits; added up with `+`.

    Attributes:
        pixels: (B,) int, pixels in each bin.
        logit_sum: (B,) float, the sum of their logits.
        foreground: How many of all pixels are foreground in the target.
        foreground_logit_sum: The sum of those pixels' logits.
    """

    pixels: np.ndarray
    logit_sum: np.ndarray
    foreground: int
    foreground_logit_sum: float

    def __add__(self, other: "LogitCounts") -> "LogitCounts":
        return LogitCounts(
            self.pixels + other.pixels,
            self.logit_sum + other.logit_sum,
            self.foreground + other.foreground,
            self.foreground_logit_sum + other.foreground_logit_sum,
        )


def apply_temperature(probability: ArrayLike, temperature: float) -> np.ndarray:
    """`sigmoid(logit(p) / T)` (Guo et al. 2017, arXiv 1706.04599): nearer to 0.5 for T > 1, farther from it for T < 1.

    The order of pixels stays, and so does the mask at threshold 0.5, whatever the temperature. Another threshold t
    gives the mask that it gave before when it is changed likewise, to `apply_temperature(t, T)`.

    Args:
        probability: numbers in [0, 1], of any shape.
        temperature: T, above 0; 1 changes nothing, to the bit.

    Returns:
        np.ndarray: Of the same shape and floating dtype.

    Raises:
        ValueError: If the temperature is not above 0.

    Example:
        >>> apply_temperature([0.2, 0.5, 0.8], 2).round(3).tolist()
        [0.333, 0.5, 0.667]
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    probability = np.asarray(probability)
    return probability if temperature == 1 else expit(logit(probability) / temperature)


def logit_counts(probability: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None) -> LogitCounts:
    """Gather the pixels of the field of view by the logit of their probability: some kilobytes, whatever the image.

    Args:
        probability: (H, W), numbers in [0, 1], at temperature 1.
        target: (H, W), bool or 0/1.
        valid_mask: (H, W), bool or 0/1, true where the image counts; `None` counts all of it.

    Returns:
        LogitCounts: In bins of equal width between the logits -16 and 16; what lies beyond counts as those.

    Raises:
        ValueError: If the probabilities leave [0, 1], an array is no mask, or the shapes differ.
    """
    values, labels = pixels_inside_field_of_view(probability, target, valid_mask)
    logits = np.clip(logit(values.astype(float)), -_CERTAIN, _CERTAIN)
    numbers = np.minimum(((logits + _CERTAIN) * (_BINS / (2 * _CERTAIN))).astype(np.intp), _BINS - 1)
    return LogitCounts(
        pixels=np.bincount(numbers, minlength=_BINS),
        logit_sum=np.bincount(numbers, weights=logits, minlength=_BINS),
        foreground=int(np.count_nonzero(labels)),
        foreground_logit_sum=float(logits[labels].sum()),
    )


def fit_temperature(counts: Sequence[LogitCounts]) -> float:
    """The temperature with the smallest binary cross-entropy over all pixels: to be fitted on validation images.

    With a = 1 / T the cross-entropy is the sum of `log(1 + exp(a l)) - y a l`, convex in a, so its one minimum is
    found between bounds. The second term needs two sums alone; the first is taken at the mean logit of bins that are
    1/64 wide.

    Probabilities that were averaged (over overlapping tiles, over mirrorings) are taken as they come out, and scaled
    after the average: what is fitted is then exactly what is used. Scaled before it, each tile would be calibrated and
    their average not: averages are less certain than what they are made of.

    Args:
        counts: One an image, all at temperature 1; every pixel counts alike.

    Returns:
        float: T, in `TEMPERATURES`; one of its ends where the best lies beyond.

    Raises:
        ValueError: If the pixels are all foreground, or all background, or there are none.

    Example:
        >>> target = np.arange(100).reshape(10, 10) % 10 < 7
        >>> certain = np.full((10, 10), 0.9)  # and right in 70 of 100 pixels
        >>> temperature = fit_temperature([logit_counts(certain, target)])
        >>> round(float(apply_temperature(0.9, temperature)), 3)
        0.7
    """
    pixels = sum(int(image.pixels.sum()) for image in counts)
    foreground = sum(image.foreground for image in counts)
    if not 0 < foreground < pixels:
        raise ValueError(
            f"a temperature needs pixels of foreground and of background, got {foreground} and {pixels - foreground} "
            f"in {len(counts)} images"
        )
    pooled = sum(counts[1:], start=counts[0])
    filled = pooled.pixels > 0
    number, total = pooled.pixels[filled], pooled.logit_sum[filled]

    def cross_entropy(inverse: float) -> float:
        return (number @ np.logaddexp(0, inverse * total / number) - inverse * pooled.foreground_logit_sum) / pixels

    low, high = TEMPERATURES
    return float(1 / minimize_scalar(cross_entropy, bounds=(1 / high, 1 / low), method="bounded").x)
