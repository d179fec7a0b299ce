"""Image files, whatever their format and mode, to the two arrays that everything else works on."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from .errors import DataError
from .image_files import (
    Source,
    content,
    numpy_array,
    open_picture,
    read_unusual,
)
from .intensity import IntensityScaling, fit_intensity_scaling

# A mask stored in one of these has values near, not at, its two levels: the number of levels says nothing.
_LOSSY_FORMATS = frozenset({"JPEG", "MPO", "WEBP", "JPEG2000", "AVIF"})
_WIDE_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
# A lossless mask with three or more levels, none above this, holds numbers of classes or objects and not grey levels.
_HIGHEST_CLASS_INDEX = 127


def decode_image(source: Source, name: str | None = None, scaling: IntensityScaling | None = None) -> np.ndarray:
    """Reads an image as 8-bit RGB, turned as its EXIF orientation says.

    Transparent pixels become black. Images of more than 8 bits a pixel go through `scaling`; without one they are
    stretched by their own percentiles (`fit_intensity_scaling`), which suits a single picture but not a data set.

    Args:
        source: A path, the encoded file itself as bytes, or an opened PIL image.
        name: What to call the image in errors; the path by default.
        scaling: How more than 8 bits become 8; images of 8 bits are left alone.

    Returns:
        uint8 array (H, W, 3) in RGB.

    Raises:
        DataError: The file does not exist, is not an image, holds several, is broken or truncated, or has more pixels
            than `$TOPOLORA_MAX_IMAGE_PIXELS` allows.
    """

    def read(source: Source) -> np.ndarray:
        pixels = _pixels(source)
        if pixels.dtype != np.uint8:
            pixels = (scaling or fit_intensity_scaling([pixels]))(pixels)
        return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels

    return guarded(read, source, name)


def read_pixels(source: Source, name: str | None = None) -> np.ndarray:
    """Reads an image with its own values: uint8 (H, W, 3), or a wider type, (H, W) or (H, W, 3).

    Args:
        source: As for `decode_image`.
        name: Likewise.

    Raises:
        DataError: As `decode_image` does.
    """
    return guarded(_pixels, source, name)


def decode_mask(source: Source, name: str | None = None) -> np.ndarray:
    """Reads a binary mask, cut at half of its range.

    Both {0, 1} and {0, 255} files are right, in 1-bit, palette, grey, colour or 16-bit form, and so are JPEG files,
    whose values lie near 0 and 255. A colour counts as bright as its brightest channel.

    Args:
        source: A path, or the encoded file itself as bytes.
        name: What to call the mask in errors; the path by default.

    Returns:
        uint8 array (H, W) of 0 (background) and 1 (foreground).

    Raises:
        DataError: The file cannot be read, or holds class indices of more than two classes.
    """
    return guarded(lambda source: binarise(*_mask_levels(source)), source, name)


def read_mask_levels(source: Source, name: str | None = None) -> tuple[np.ndarray, bool]:
    """Reads a mask before it is cut: its (H, W) values, and whether its format is a lossy one.

    Raises:
        DataError: The file cannot be read.
    """
    return guarded(_mask_levels, source, name)


def binarise(levels: np.ndarray, is_lossy: bool) -> np.ndarray:
    """Cuts (H, W) values at half of their range: 1, 255, or their own maximum where that is higher.

    Raises:
        DataError: The values are class indices of more than two classes, or infinite; NaN is background.
    """
    if is_lossy:
        return (levels >= 127.5).astype(np.uint8)
    if np.issubdtype(levels.dtype, np.floating):
        if np.isinf(levels).any():
            raise DataError("holds infinite values; a mask of two classes is needed (0 and 1, or 0 and 255)")
        levels = np.nan_to_num(levels)
    peak = float(levels.max())
    if peak <= 1:
        return (levels >= 0.5).astype(np.uint8)
    is_positive = levels > 0
    if (levels[is_positive] == peak).all():  # {0, v}: v is foreground, whatever it is
        return is_positive.astype(np.uint8)
    if peak <= _HIGHEST_CLASS_INDEX:
        raise DataError(
            f"holds class indices up to {peak:.0f}; a mask of two classes is needed (0 and 1, or 0 and 255)"
        )
    return (levels >= max(255.0, peak) / 2).astype(np.uint8)


def guarded(read: Callable[[Source], Any], source: Source, name: str | None = None) -> Any:
    """Calls `read(source)`; what a broken file makes it raise, whatever it is, is one `DataError` with its name."""
    is_path = isinstance(source, str | os.PathLike)
    name = name or (str(source) if is_path else f"an image given as {type(source).__name__}")
    try:
        return read(source)
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such file") from error
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    except MemoryError as error:
        raise DataError(f"{name}: there is not enough memory to decode it") from error
    except Exception as error:  # Pillow raises OSError, SyntaxError, struct.error, ... depending on where a file breaks
        raise DataError(f"{name}: cannot be read as an image ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    # Pillow's own text for an unknown file repeats the path or a memory address.
    return "unknown format" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__


def _pixels(source: Source) -> np.ndarray:
    source = content(source)
    array = numpy_array(source)
    if array is not None:
        return _checked_pixels(array * np.uint8(255) if array.dtype == bool else array)
    try:
        image = open_picture(source)
    except UnidentifiedImageError:
        return _checked_pixels(read_unusual(source))
    if image.mode in _WIDE_MODES:
        return np.asarray(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return np.array(image.convert("RGB"))


def _checked_pixels(pixels: np.ndarray) -> np.ndarray:
    """A bare array as (H, W) or (H, W, 3) numbers; 8-bit grey as RGB, an alpha channel dropped."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    is_number = np.issubdtype(pixels.dtype, np.integer) or np.issubdtype(pixels.dtype, np.floating)
    is_image = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))
    if not is_number or not is_image or 0 in pixels.shape:
        raise DataError(
            f"is an array of shape {pixels.shape} and type {pixels.dtype}; (H, W) or (H, W, 3) numbers are needed"
        )
    if pixels.ndim == 3:
        return pixels[..., :3]
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.dtype == np.uint8 else pixels


def _mask_levels(source: Source) -> tuple[np.ndarray, bool]:
    source = content(source)
    array = numpy_array(source)
    if array is not None:
        return _checked_levels(array), False
    try:
        image = open_picture(source)
    except UnidentifiedImageError:
        levels = _checked_pixels(read_unusual(source))
        return (levels.max(axis=2) if levels.ndim == 3 else levels), False
    if image.mode == "P":
        levels = _palette_levels(image)
    elif image.mode in ("1", "L", *_WIDE_MODES):
        levels = np.asarray(image)
    else:
        # An alpha channel dims what it hides, so that white on transparent reads as white on black.
        channels = np.asarray(image.convert("RGBA"), dtype=np.uint16)
        levels = channels[..., :3].max(axis=2) * channels[..., 3] // 255
    return levels, image.format in _LOSSY_FORMATS


def _checked_levels(levels: np.ndarray) -> np.ndarray:
    levels = levels[..., 0] if levels.ndim == 3 and levels.shape[2] == 1 else levels
    if levels.ndim != 2 or 0 in levels.shape or levels.dtype.kind not in "buif":
        raise DataError(f"is a mask of shape {levels.shape} and type {levels.dtype}; (H, W) numbers are needed")
    return levels


def _palette_levels(image: Image.Image) -> np.ndarray:
    """Grey levels of a mask whose palette is grey; else the palette's indices, which then name classes."""
    indices = np.asarray(image)
    palette = np.asarray(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    colours = palette[np.unique(indices)]
    if (colours == colours[:, :1]).all():
        return palette[indices, 0]
    if len(colours) > 2:
        raise DataError(f"has a coloured palette with {len(colours)} classes; a mask of two classes is needed")
    return indices > 0
