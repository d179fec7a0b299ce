"""What a number in an image means: images of more than 8 bits are brought to 8 by one mapping for the data set."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..settings import option
from .errors import DataError

Parts = Callable[[], Iterable[np.ndarray]]

TRANSFORMS = {"linear": np.asarray, "sqrt": np.sqrt, "log": np.log1p}
PERCENTILES = (0.5, 99.5)

_VALUES_AN_IMAGE = 65_536
_IMAGES = 500
_NO_CHANGE = 8  # levels of 255: a transform that moves no value by more does nothing


@dataclass(frozen=True)
class IntensityScaling:
    """A mapping of 16-bit, 32-bit or float pixel values to 0..255, the same for every image of a data set.

    It is fitted on the training images. Prediction must use the same one.

    >>> scaling = IntensityScaling(low=0, high=1000)
    >>> scaling(np.array([[-5, 0, 500, 1000, 65535]])).tolist()
    [[0, 0, 128, 255, 255]]
    """

    low: float = option(help="The value that becomes 0, and all below it.")
    high: float = option(help="The value that becomes 255, and all above it.")
    transform: str = option("linear", "linear; sqrt or log (of 1 + value) spread the dark values of radar amplitude.")
    of_8_bits: bool = option(False, "Whether images of 8 bits go through it too, because it was fitted on such.")

    def __post_init__(self):
        if not all(isinstance(bound, int | float) and abs(bound) < float("inf") for bound in (self.low, self.high)):
            raise DataError(f"an intensity range needs two finite numbers, got {self.low!r} and {self.high!r}")
        if self.low > self.high:
            raise DataError(f"an intensity range needs low <= high, got {self.low} and {self.high}")
        if self.transform not in tuple(TRANSFORMS):
            raise DataError(f"unknown intensity transform {self.transform!r}; allowed: {', '.join(TRANSFORMS)}")
        if self.low < 0 and self.transform != "linear":
            raise DataError(f"negative values ({self.low:g}) have no {self.transform}; for decibels use linear")
        if not isinstance(self.of_8_bits, bool):
            raise DataError(f"of_8_bits must be true or false, got {self.of_8_bits!r}")

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Map an array of any shape and number type to uint8; NaN becomes 0."""
        if pixels.dtype in (np.uint8, np.uint16) and pixels.size > 2 ** (8 * pixels.itemsize):
            return self(np.arange(2 ** (8 * pixels.itemsize), dtype=pixels.dtype))[pixels]
        transform = TRANSFORMS[self.transform]
        values = np.nan_to_num(pixels.astype(_precision(pixels.dtype)), nan=self.low).clip(self.low, self.high)
        low, high = (float(transform(np.float64(bound))) for bound in (self.low, self.high))
        return np.rint((transform(values) - low) * (255.0 / max(high - low, 1e-12))).clip(0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Numbers:
    """What the values of one image are."""

    kind: str  # their type, as "uint16"
    low: float  # the smallest of a valid pixel
    high: float
    nodata: float | None = None  # the value that the file declares to be no data
    invalid: float = 0.0  # share of pixels without data

    @property
    def is_wide(self) -> bool:
        """Whether they are other than 8-bit values, 0 to 255."""
        return self.kind != "uint8"


def fit_intensity_scaling(
    images: Iterable[np.ndarray | Parts], percentiles: Sequence[float] | None = None, transform: str = "linear"
) -> IntensityScaling:
    """The mapping that a set of images asks for.

    Values that have a scale of their own keep it: whole numbers within [0, 255], and others within [0, 1]. All else is
    stretched between two percentiles over all images: radar and microscopy seldom use their type's whole range, and a
    few bright pixels would leave the rest dark. If both percentiles are one number, the range is that of all values.

    Args:
        images: Arrays of any shape and number type; of each, up to 65,536 values are drawn, the same ones each time. An
            image that does not fit in memory is a function that returns its parts, and is called twice.
        percentiles: Of the values that become 0 and 255. If given, they are used also for values with a scale of their
            own; None: 0.5 and 99.5 for the others.
        transform: A key of `TRANSFORMS`.

    Returns:
        The mapping. It is `of_8_bits` if all images are uint8.

    Raises:
        DataError: No value is finite, the percentiles are impossible, or the transform is, or would change nothing.
    """
    low, high = percentiles or PERCENTILES
    if not 0 <= low < high <= 100:
        raise DataError(f"intensity percentiles must be 0 <= low < high <= 100, got {low} and {high}")
    samples, smallest, largest, kinds, are_whole = [], np.inf, -np.inf, set(), True
    for image in images:
        parts, size = image if callable(image) else partial(iter, [image]), 0
        for values in _finite(parts):
            are_whole &= values.dtype.kind != "f" or bool((values == np.rint(values)).all())
            if values.size:
                smallest, largest = min(smallest, float(values.min())), max(largest, float(values.max()))
            size += values.size
            kinds.add(values.dtype)
        samples += [_drawn(parts, size)] * bool(size)
    if not samples:
        raise DataError("has no finite value")
    top = 1.0 if largest <= 1 and any(kind.kind == "f" for kind in kinds) else 255.0
    if percentiles is None and 0 <= smallest and largest <= top and (are_whole or top == 1):
        bounds = [0.0, top]
    else:
        bounds = [float(bound) for bound in np.percentile(np.concatenate(samples), (low, high))]
        bounds = bounds if bounds[0] < bounds[1] else [smallest, largest]
    scaling = IntensityScaling(*bounds, transform, of_8_bits=kinds == {np.dtype(np.uint8)})
    moved = np.abs(scaling(np.linspace(*bounds, 256)).astype(int) - np.arange(256)).max()
    if transform != "linear" and bounds[0] < bounds[1] and moved < _NO_CHANGE:
        values = f"values from {bounds[0]:g} to {bounds[1]:g}"
        raise DataError(f"the {transform} of {values} is nearly linear and changes nothing: leave it out, or use sqrt")
    return scaling


def _finite(parts: Parts) -> Iterator[np.ndarray]:
    """The finite values of each part, flat."""
    for part in parts():
        values = part.reshape(-1)
        yield values[np.isfinite(values)] if values.dtype.kind == "f" else values


def _drawn(parts: Parts, size: int) -> np.ndarray:
    """Values of an image: one anywhere in each of many equal stretches, so that no step fits columns or channels."""
    places = np.arange(size if size <= _VALUES_AN_IMAGE else _VALUES_AN_IMAGE)
    if size > _VALUES_AN_IMAGE:
        anywhere = np.random.default_rng(0).random(_VALUES_AN_IMAGE)
        places = ((places + anywhere) / _VALUES_AN_IMAGE * size).astype(np.int64)
    start, drawn = 0, []
    for values in _finite(parts):
        first, last = np.searchsorted(places, (start, start + values.size))
        drawn.append(values[places[first:last] - start])
        start += values.size
    values = np.concatenate(drawn)
    return values.astype(_precision(values.dtype))


def _precision(kind: np.dtype) -> type:
    """A float type that tells all values of a type apart."""
    return np.float32 if kind.itemsize <= 2 or kind == np.float32 else np.float64


def tell_numbers(images: Sequence[Numbers], scaling: IntensityScaling | None) -> list[str]:
    """One sentence for each group of images with the same type and nodata value: range, nodata and scaling.

    >>> tell_numbers([Numbers("uint16", 3, 900), Numbers("uint16", 0, 700)], IntensityScaling(5, 800))
    ['2 images of uint16, 0 to 900: linear from 5 (black) to 800 (white)']
    """
    groups, sentences = defaultdict(list), []
    for each in images:
        groups[each.kind, each.nodata].append(each)
    for (kind, nodata), group in groups.items():
        low, high = min(each.low for each in group), max(each.high for each in group)
        text = f"{len(group)} image{'s' * (len(group) > 1)} of {kind}, {low:.6g} to {high:.6g}"
        text += "" if nodata is None else f", nodata {nodata:.6g}"
        if invalid := [each.invalid for each in group if each.invalid]:
            text += f", {np.mean(invalid):.1%} without data in {len(invalid)} of them"
        how = "as they are"
        if scaling and (kind != "uint8" or scaling.of_8_bits):
            how = f"{scaling.transform} from {scaling.low:.6g} (black) to {scaling.high:.6g} (white)"
        sentences.append(f"{text}: {how}")
    return sentences


def require_one_scale(images: Sequence[Numbers]) -> None:
    """Refuse types of more than 8 bits of which one goes more than ten times as far: one mapping makes others black."""
    tops = defaultdict(float)
    for each in images:
        if each.is_wide:
            tops[each.kind] = max(tops[each.kind], abs(each.low), abs(each.high))
    if tops and max(tops.values()) > 10 * min(tops.values()):
        scales = ", ".join(f"{kind} up to {top:.6g}" for kind, top in tops.items())
        raise DataError(
            f"images have numbers of several scales, and no mapping to 8 bits fits all: {scales}. Convert them"
        )


def evenly_spread(items: Sequence, limit: int = _IMAGES) -> list:
    """At most `limit` of the items, from first to last.

    >>> evenly_spread(range(10), 4)
    [0, 3, 6, 9]
    """
    numbers = np.unique(np.linspace(0, len(items) - 1, min(limit, len(items))).round().astype(int))
    return [items[int(number)] for number in numbers]
