"""Image files to 8-bit RGB."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..errors import DataError
from ..intensity import IntensityScaling, Numbers, fit_intensity_scaling
from .containers import Source, guarded, read_contents, shown
from .contents import Contents

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Picture:
    """An image with its own values.

    Pixels without data are black (0) where the type is uint8, and transparent ones in every type.
    """

    values: np.ndarray  # uint8 (H, W, 3), or a wider type, (H, W) or (H, W, 3)
    valid: np.ndarray | None = None  # bool (H, W), False for nodata, NaN, infinite, masked by the file; None: all is
    nodata: float | None = None  # the value that the file declares to be no data
    orientation: int = 1  # as stored; 1 if nothing had to be turned
    name: str = "an image"  # what to call it in warnings

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.values.shape[1], self.values.shape[0]

    @property
    def usable(self) -> np.ndarray:
        """The values of valid pixels, without nodata: (N, 3) or (N,), or of the image's shape if all are."""
        values = self.values if self.valid is None else self.values[self.valid]
        is_nodata = values == self.nodata if self.nodata is not None else np.False_
        return values[~is_nodata] if is_nodata.any() else values

    @cached_property
    def numbers(self) -> Numbers:
        """What the values are, for reports."""
        usable = self.usable
        low, high = (usable.min(), usable.max()) if usable.size else (0, 0)
        invalid = 0.0 if self.valid is None else 1 - float(self.valid.mean())
        return Numbers(str(self.values.dtype), float(low), float(high), self.nodata, invalid)

    def rgb(self, scaling: IntensityScaling | None = None) -> np.ndarray:
        """uint8 (H, W, 3). Without `scaling`, values of more than 8 bits are stretched by their own percentiles."""
        if not self.needs(scaling):
            return self.values
        pixels = self.scaled(scaling or fit_intensity_scaling([self.usable]))
        seen, numbers = pixels if self.valid is None else pixels[self.valid], self.numbers
        if scaling and seen.max() == seen.min() and numbers.low < numbers.high:
            logger.warning(
                "%s: its %s values, %.6g to %.6g, all become %d: they are scaled from %.6g (black) to %.6g (white)",
                self.name, numbers.kind, numbers.low, numbers.high, seen.max(), scaling.low, scaling.high,
            )  # fmt: skip
        return pixels

    def needs(self, scaling: IntensityScaling | None) -> bool:
        """Whether values become 8 bits by a scaling: this one, or their own where it is None."""
        return self.values.dtype != np.uint8 or bool(scaling and scaling.of_8_bits)

    def scaled(self, scaling: IntensityScaling) -> np.ndarray:
        """uint8 (H, W, 3)."""
        pixels = scaling(self.values)
        if self.valid is not None:
            pixels[~self.valid] = 0
        return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels


def read_picture(source: Source, name: str | None = None, bands: Sequence[int] | None = None) -> Picture:
    """Read an image with its own values; arguments and errors are those of `decode_image`."""
    name = name or shown(source)
    return guarded(lambda source: picture_of(_with_data(read_contents(source, bands)), name), source, name)


def decode_image(
    source: Source, name: str | None = None, scaling: IntensityScaling | None = None, bands: Sequence[int] | None = None
) -> np.ndarray:
    """Read an image as 8-bit RGB, turned as its EXIF or TIFF orientation says.

    Transparent pixels and those without data become black. Images of more than 8 bits a pixel go through `scaling`;
    without one they are stretched by their own percentiles (`fit_intensity_scaling`), which suits a single picture but
    not a data set.

    Args:
        source: A path, the encoded file itself as bytes, or an opened PIL image.
        name: What to call the image in errors; the path by default.
        scaling: How more than 8 bits become 8. Images of 8 bits stay as they are, unless it was fitted on such.
        bands: Numbers of the one or three bands to take, from 1, as (4, 3, 2).

    Returns:
        uint8 array (H, W, 3) in RGB.

    Raises:
        DataError: The file does not exist, holds no image or several, is broken, has no valid pixel, has more pixels
            than `$TOPOLORA_MAX_IMAGE_PIXELS` allows, or two or more than three bands without `bands`.
    """
    picture = read_picture(source, name, bands)
    return guarded(lambda _: picture.rgb(scaling), source, name)


def _with_data(contents: Contents) -> Contents:
    if contents.valid is not None and not contents.valid.any():
        raise no_valid_pixel()
    return contents


def no_valid_pixel() -> DataError:
    """The error for an image without any data."""
    return DataError("has no valid pixel: all are nodata, NaN, infinite or masked out")


def picture_of(contents: Contents, name: str) -> Picture:
    """The picture that the chosen bands of a file are."""
    values, valid, alpha = contents.values, contents.valid, contents.alpha
    if contents.palette is not None:
        values = contents.palette[values]
    if values.dtype == bool:
        values = values * np.uint8(255)
    if values.dtype == np.uint8 and values.ndim == 2:
        values = np.repeat(values[..., None], 3, axis=2)
    if alpha is not None:
        blended = values * ((alpha if values.ndim == 2 else alpha[..., None]) / np.float32(255))
        values = (blended if values.dtype.kind == "f" else blended.round()).astype(values.dtype)
    if valid is not None and values.dtype == np.uint8:
        values = np.where(valid[..., None], values, np.uint8(0))
    return Picture(np.ascontiguousarray(values), valid, contents.nodata, contents.orientation, name)
