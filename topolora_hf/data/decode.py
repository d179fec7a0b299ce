"""Image files, whatever their format and mode, to the two arrays that everything else works on."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import DataError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif", ".bmp", ".ppm", ".pgm", ".pbm", ".webp"})

# A mask stored in one of these has values near, not at, its two levels: the number of levels says nothing.
_LOSSY_FORMATS = frozenset({"JPEG", "MPO", "WEBP", "JPEG2000", "AVIF"})
_WIDE_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
_STRETCH_PERCENTILES = (0.5, 99.5)
# A lossless mask with three or more levels, none above this, holds class indices and not grey levels.
_HIGHEST_CLASS_INDEX = 31

Source = str | os.PathLike[str] | bytes | Image.Image


def decode_image(source: Source, name: str | None = None) -> np.ndarray:
    """Reads an image as 8-bit RGB, turned as its EXIF orientation says.

    Transparent pixels become black. Images of more than 8 bits a pixel are stretched to 8 bits: values up to 255 (or
    floats in [0, 1]) keep their scale, others are mapped linearly from their 0.5th and 99.5th percentiles, since such
    files (radar, microscopy) seldom use their type's whole range.

    Args:
        source: A path, the encoded file itself as bytes, or an opened PIL image.
        name: What to call the image in errors; the path by default.

    Returns:
        uint8 array (H, W, 3) in RGB.

    Raises:
        DataError: The file does not exist, is not an image, or is broken or truncated.
    """
    return _guarded(_image_array, source, name)


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
    return _guarded(_mask_array, source, name)


def _guarded(read: Callable[[Source], np.ndarray], source: Source, name: str | None) -> np.ndarray:
    """Calls `read(source)`; whatever a broken file makes the image library raise becomes one error with its name."""
    is_path = isinstance(source, str | os.PathLike)
    name = name or (str(source) if is_path else f"an image given as {type(source).__name__}")
    try:
        return read(source)
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such file") from error
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, struct.error, ... depending on where a file breaks
        raise DataError(f"{name}: cannot be read as an image ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    # Pillow's own text for an unknown file repeats the path or a memory address.
    return "unknown format" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__


def _open(source: Source) -> Image.Image:
    """Opens and decodes the first frame, upright, keeping `format` for the caller."""
    if isinstance(source, Image.Image):
        return ImageOps.exif_transpose(source)
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
        upright.format = image.format
        return upright


def _image_array(source: Source) -> np.ndarray:
    try:
        image = _open(source)
    except UnidentifiedImageError:
        return _scientific_tiff(source)
    if image.mode in _WIDE_MODES:
        return _as_rgb(_to_8_bits(np.asarray(image)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return np.array(image.convert("RGB"))


def _as_rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


def _scientific_tiff(source: Source) -> np.ndarray:
    """Reads TIFF kinds that Pillow does not know (16-bit or float colour), through tifffile."""
    try:
        pixels = tifffile.imread(io.BytesIO(source) if isinstance(source, bytes) else Path(source))
    except tifffile.TiffFileError as error:
        raise DataError("cannot be read as an image (unknown format)") from error
    if pixels.ndim == 2:
        return _as_rgb(_to_8_bits(pixels))
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        raise DataError(f"is a TIFF of shape {pixels.shape}; (H, W) or (H, W, 3) is needed")
    return _to_8_bits(pixels[..., :3])


def _to_8_bits(pixels: np.ndarray) -> np.ndarray:
    """Maps an integer or float array of any range to uint8; what is not finite becomes 0."""
    values = pixels.astype(np.float32)
    finite = np.isfinite(values)
    if not finite.any():
        raise DataError("has no finite value")
    low, high = float(values[finite].min()), float(values[finite].max())
    if np.issubdtype(pixels.dtype, np.floating) and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low >= 0 and high <= 255:
        low, high = 0.0, 255.0
    else:
        low, high = np.percentile(values[finite], _STRETCH_PERCENTILES)
    stretched = (np.where(finite, values, low) - low) * (255.0 / max(high - low, 1e-12))
    return np.clip(np.rint(stretched), 0, 255).astype(np.uint8)


def _mask_array(source: Source) -> np.ndarray:
    image = _open(source)
    is_lossy = image.format in _LOSSY_FORMATS
    if image.mode == "P":
        levels = _palette_levels(image)
    elif image.mode in ("1", "L", *_WIDE_MODES):
        levels = np.asarray(image)
    else:
        # An alpha channel dims what it hides, so that white on transparent reads as white on black.
        channels = np.asarray(image.convert("RGBA"), dtype=np.uint16)
        levels = channels[..., :3].max(axis=2) * channels[..., 3] // 255
    return _threshold(levels, is_lossy)


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


def _threshold(levels: np.ndarray, is_lossy: bool) -> np.ndarray:
    """Cuts a (H, W) array at half of its range: 1, 255, or its own maximum where that is higher."""
    if levels.ndim != 2:
        raise DataError(f"is a mask of shape {levels.shape}; (H, W) is needed")
    levels = np.nan_to_num(levels) if np.issubdtype(levels.dtype, np.floating) else levels
    peak = float(levels.max())
    if is_lossy:
        return (levels >= 127.5).astype(np.uint8)
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
