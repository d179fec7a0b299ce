"""Images of more than 8 bits, brought to 8 by one mapping for the whole data set."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .errors import DataError

TRANSFORMS = {
    "linear": lambda values: values,
    "sqrt": np.sqrt,
    "log": np.log1p,
}
PERCENTILES = (0.5, 99.5)

_VALUES_AN_IMAGE = 65_536
_IMAGES = 500


@dataclass(frozen=True)
class IntensityScaling:
    """A mapping of 16-bit, 32-bit or float pixel values to 0..255, the same for every image of a data set.

    It is fitted on the training images and belongs to what was trained on them: prediction must use the same one, or
    the network sees another brightness than it learnt.

    >>> scaling = IntensityScaling(low=0, high=1000)
    >>> scaling(np.array([[-5, 0, 500, 1000, 65535]])).tolist()
    [[0, 0, 128, 255, 255]]
    """

    low: float = field(metadata={"help": "The value that becomes 0, and all below it."})
    high: float = field(metadata={"help": "The value that becomes 255, and all above it."})
    transform: str = field(
        default="linear",
        metadata={"help": "linear; sqrt or log (of 1 + value) spread the dark values of radar amplitude."},
    )

    def __post_init__(self):
        if not all(isinstance(bound, int | float) and abs(bound) < float("inf") for bound in (self.low, self.high)):
            raise DataError(f"an intensity range needs two finite numbers, got {self.low!r} and {self.high!r}")
        if not isinstance(self.transform, str) or self.transform not in TRANSFORMS:
            raise DataError(f"unknown intensity transform {self.transform!r}; allowed: {', '.join(TRANSFORMS)}")
        if not self.low <= self.high:
            raise DataError(f"an intensity range needs low <= high, got {self.low} and {self.high}")
        if self.low < 0 and self.transform != "linear":
            raise DataError(
                f"the {self.transform} of negative values ({self.low:g}) does not exist; values in decibels are "
                "logarithms already: use linear"
            )

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Map an array of any shape and number type to uint8; NaN becomes 0."""
        transform = TRANSFORMS[self.transform]
        values = np.clip(np.nan_to_num(pixels.astype(np.float32), nan=self.low), self.low, self.high)
        low, high = (float(transform(np.float64(bound))) for bound in (self.low, self.high))
        return np.rint((transform(values) - low) * (255.0 / max(high - low, 1e-12))).clip(0, 255).astype(np.uint8)


def fit_intensity_scaling(
    images: Iterable[np.ndarray], percentiles: Sequence[float] = PERCENTILES, transform: str = "linear"
) -> IntensityScaling:
    """The mapping that a set of images asks for.

    Values that have a scale of their own keep it: floats within [0, 1], and integers within [0, 255] in a wider type.
    Otherwise the range is taken from percentiles over all images, since radar and microscopy seldom use their type's
    whole range and a few bright pixels would leave the rest dark.

    Args:
        images: Arrays of any shape and number type; up to 65,536 evenly spread values of each are looked at.
        percentiles: Of the values that become 0 and 255.
        transform: A key of `TRANSFORMS`.

    Returns:
        The mapping.

    Raises:
        DataError: No value is finite, the percentiles are not 0 <= low < high <= 100, or the transform is unknown or
            impossible for these values.
    """
    low, high = percentiles
    if not 0 <= low < high <= 100:
        raise DataError(f"intensity percentiles must be 0 <= low < high <= 100, got {low} and {high}")
    samples, has_floats = [], False
    for image in images:
        has_floats |= bool(np.issubdtype(image.dtype, np.floating))
        values = image.reshape(-1)[:: max(1, image.size // _VALUES_AN_IMAGE)].astype(np.float32)
        samples.append(values[np.isfinite(values)])
    values = np.concatenate(samples) if samples else np.empty(0)
    if values.size == 0:
        raise DataError("has no finite value")
    smallest, largest = float(values.min()), float(values.max())
    if has_floats and smallest >= 0 and largest <= 1:
        return IntensityScaling(0.0, 1.0, transform)
    if smallest >= 0 and largest <= 255:
        return IntensityScaling(0.0, 255.0, transform)
    return IntensityScaling(*(float(bound) for bound in np.percentile(values, (low, high))), transform)


def evenly_spread(items: Sequence, limit: int = _IMAGES) -> list:
    """At most `limit` of the items, from first to last.

    >>> evenly_spread(range(10), 4)
    [0, 3, 6, 9]
    """
    numbers = np.unique(np.linspace(0, len(items) - 1, min(limit, len(items))).round().astype(int))
    return [items[int(number)] for number in numbers]
