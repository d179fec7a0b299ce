"""Platt scaling: two numbers, fitted on images with masks, that make probabilities mean what they say."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import add

import numpy as np
from numpy.typing import ArrayLike

from .masks import pixels_inside_field_of_view

TEMPERATURES = (0.1, 10.0)  # what is searched: beyond lie images on which nothing can be learned of certainty
_CERTAIN = 16.0  # logits end here: nearer to 1 there is no float32; no bias is larger
_BINS = 2048


@dataclass(frozen=True)
class PlattScaling:
    """`sigmoid(logit(p) / T + b)` (Platt 1999; the temperature alone: Guo et al. 2017, arXiv 1706.04599).

    A temperature above 1 makes probabilities less certain. A bias below 0 makes foreground rarer, as it is needed after
    a Dice loss, which marks more than is there. The order of pixels stays. The threshold t gives the mask that it gave
    before when it is changed likewise, to `scaling(t)`.

    Attributes:
        temperature: T, above 0.
        bias: b, finite, added to the logit.

    Raises:
        ValueError: The temperature is not above 0, or the bias is not finite.

    >>> PlattScaling(temperature=2)([0.2, 0.5, 0.8]).round(3).tolist()
    [0.333, 0.5, 0.667]
    >>> PlattScaling(bias=-1)([0.2, 0.5, 0.8]).round(3).tolist()
    [0.084, 0.269, 0.595]
    """

    temperature: float = 1.0
    bias: float = 0.0

    def __post_init__(self):
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")
        if not np.isfinite(self.bias):
            raise ValueError(f"bias must be finite, got {self.bias}")

    def __call__(self, probability: ArrayLike) -> np.ndarray:
        """Scale numbers in [0, 1] of any shape, in their floating dtype; to the bit the same where T is 1 and b 0."""
        probability = np.asarray(probability)
        if self == PlattScaling():
            return probability
        from scipy.special import expit, logit

        return expit(logit(probability) / self.temperature + self.bias)


@dataclass(frozen=True)
class Calibration:
    """The scaling of each class's probability; where exclusive classes then sum to more than 1, they are divided by it.

    >>> Calibration((PlattScaling(), PlattScaling(bias=2)), exclusive=True)([[0.5], [0.5]]).round(3).tolist()
    [[0.362], [0.638]]
    """

    scalings: tuple[PlattScaling, ...] = (PlattScaling(),)
    exclusive: bool = False

    def __call__(self, probabilities: ArrayLike) -> np.ndarray:
        """Scale (K, ...) numbers in [0, 1], in their floating dtype; untouched where no scaling changes anything."""
        probabilities = np.asarray(probabilities)
        if set(self.scalings) == {PlattScaling()}:
            return probabilities
        scaled = np.stack([scale(each) for scale, each in zip(self.scalings, probabilities, strict=True)])
        return scaled / np.maximum(scaled.sum(axis=0), 1) if self.exclusive else scaled


@dataclass(frozen=True, eq=False)
class LogitCounts:
    """What the fit needs of the pixels of an image, counted in B bins of logits; added up over images with `+`.

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
        return LogitCounts(*map(add, vars(self).values(), vars(other).values()))


def logit_counts(probability: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None) -> LogitCounts:
    """Count the pixels of the field of view by the logit of their probability: some kilobytes, whatever the image.

    The bins are of equal width between the logits -16 and 16; what lies beyond counts as those. Arguments and errors
    are `auroc`'s.
    """
    from scipy.special import logit

    values, labels = pixels_inside_field_of_view(probability, target, valid_mask)
    logits = np.clip(logit(values.astype(float)), -_CERTAIN, _CERTAIN)
    numbers = np.minimum(((logits + _CERTAIN) * (_BINS / (2 * _CERTAIN))).astype(np.intp), _BINS - 1)
    return LogitCounts(
        pixels=np.bincount(numbers, minlength=_BINS),
        logit_sum=np.bincount(numbers, weights=logits, minlength=_BINS),
        foreground=int(np.count_nonzero(labels)),
        foreground_logit_sum=float(logits[labels].sum()),
    )


def fit_platt_scaling(counts: Sequence[LogitCounts]) -> PlattScaling:
    """Fit the scaling with the smallest binary cross-entropy over all pixels; its temperature lies in `TEMPERATURES`.

    Use validation images: on training images the network is too certain.

    With a = 1 / T the cross-entropy is the sum of `log(1 + exp(a l + b)) - y (a l + b)`. It is convex in a and b, with
    one minimum. The second term needs three sums alone; the first is taken at the mean logit of bins 1/64 wide.
    Averaged probabilities (over tiles, over mirrorings) are scaled after the average, here and at prediction.

    Args:
        counts: One an image, of the network's own probabilities; every pixel counts alike.

    Raises:
        ValueError: There are not both foreground and background pixels.

    >>> target = np.arange(100).reshape(10, 10) % 10 < 7
    >>> certain = np.where(np.arange(10) < 5, 0.9, 0.8)  # right in all and in two of five pixels
    >>> scaling = fit_platt_scaling([logit_counts(np.tile(certain, (10, 1)), target)])
    >>> scaling([0.9, 0.8]).round(3).tolist()
    [1.0, 0.4]
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    pixels = sum(int(image.pixels.sum()) for image in counts)
    foreground = sum(image.foreground for image in counts)
    if not 0 < foreground < pixels:
        raise ValueError(
            f"a calibration needs pixels of foreground and of background, got {foreground} and {pixels - foreground} "
            f"in {len(counts)} images"
        )
    pooled = sum(counts[1:], start=counts[0])
    filled = pooled.pixels > 0
    share, logits = pooled.pixels[filled] / pixels, pooled.logit_sum[filled] / pooled.pixels[filled]
    of_foreground = np.array([pooled.foreground_logit_sum, foreground]) / pixels

    def cross_entropy(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """With its gradient."""
        inverse, bias = parameters
        scaled = inverse * logits + bias
        predicted = share * expit(scaled)
        value = share @ np.logaddexp(0, scaled) - of_foreground @ parameters
        return value, np.array([predicted @ logits, predicted.sum()]) - of_foreground

    low, high = TEMPERATURES
    bounds = [(1 / high, 1 / low), (-_CERTAIN, _CERTAIN)]
    inverse, bias = minimize(cross_entropy, [1.0, 0.0], jac=True, bounds=bounds, tol=1e-12).x
    return PlattScaling(float(1 / inverse), float(bias))
