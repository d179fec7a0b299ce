"""Any image file to an array and what the file says of it. Nothing is decoded before its claimed size is checked."""

import gzip
import io
import lzma
import math
import os
import stat
import sys
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from ..errors import DataError
from .limits import PIXELS_VARIABLE, max_file_bytes, max_image_pixels, require_size, too_large

Source = str | os.PathLike[str] | bytes | Image.Image
Result = TypeVar("Result")

# What Pillow may open, whatever a file is called. Others (EPS, FITS, WMF, ...) start programs or are no photographs.
FORMATS = ("PNG", "JPEG", "TIFF", "GIF", "BMP", "DIB", "PPM", "WEBP", "JPEG2000", "AVIF")
# A mask stored in one of these has values near, not at, its two levels.
_LOSSY_FORMATS = ("JPEG", "MPO", "WEBP", "JPEG2000", "AVIF")
_WIDE_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
_NPY_MAGIC = b"\x93NUMPY"
# Of 16-bit colour Pillow keeps one byte. These names of a file's layout make it keep the other.
_ORDERS = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_OTHER_BYTE = {f"{mode};16{own}": f"{mode};16{other}" for mode in ("RGB", "RGBA") for own, other in _ORDERS.items()}
_CHUNK = 2**20
_lock = threading.Lock()


@dataclass(frozen=True)
class Contents:
    """An image as its file has it, upright.

    Attributes:
        values: (H, W) grey levels or indices into the palette, or (H, W, 3) RGB; bool, integers or floats.
        palette: (N, 3) uint8 RGB, or None.
        alpha: (H, W) uint8, 0 for transparent, or None.
        is_lossy: Whether the format changes values.
    """

    values: np.ndarray
    palette: np.ndarray | None = None
    alpha: np.ndarray | None = None
    is_lossy: bool = False


def read_contents(source: Source) -> Contents:
    """Read an image file of any format that is known here.

    Raises:
        DataError: It is no plain file, holds several images, is too large, or holds no image.
        Exception: Whatever a library raises for a broken file. `guarded` turns it into a `DataError`.
    """
    if isinstance(source, Image.Image):
        return _of_picture(ImageOps.exif_transpose(source), source.format)
    source = _plain_content(source)
    if isinstance(source, bytes) and source.startswith(_NPY_MAGIC):
        raise DataError("is a .npy file inside another; save it as a file of its own")
    if not isinstance(source, bytes) and Path(source).suffix.lower() == ".npy":
        return Contents(_checked(_read_npy(source)))
    try:
        return _read_picture(source)
    except UnidentifiedImageError:
        return Contents(_checked(_read_tiff(source)))


def guarded(read: Callable[[Source], Result], source: Source, name: str | None = None) -> Result:
    """Call `read(source)`. Whatever a broken file makes it raise becomes one `DataError` with the file's name."""
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
    except Exception as error:  # OSError, SyntaxError, struct.error, ... depending on where a file breaks
        raise DataError(f"{name}: cannot be read as an image ({str(error) or type(error).__name__})") from error


def _plain_content(source: str | os.PathLike | bytes) -> str | os.PathLike | bytes:
    """The source, or as bytes what a .gz file holds."""
    if isinstance(source, bytes):
        return source
    if not stat.S_ISREG(os.stat(source).st_mode):  # reading a pipe would wait for ever
        raise DataError("is not a plain file")
    if Path(source).suffix.lower() != ".gz":
        return source
    limit = max_file_bytes()
    with gzip.open(source) as file:
        unpacked = file.read(limit + 1)
    if len(unpacked) > limit:
        raise DataError(
            f"unpacks to more than {limit:,} bytes; if that is meant, raise the environment variable {PIXELS_VARIABLE} "
            f"(now {max_image_pixels():,})"
        )
    return unpacked


def _read_npy(path: str | os.PathLike) -> np.ndarray:
    """Mapped first: numpy checks that the file is as long as its header says, and makes no room for it."""
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    if mapped.ndim in (2, 3):
        require_size(mapped.shape[1], mapped.shape[0])
    return np.array(_checked(mapped))


def _checked(values: np.ndarray) -> np.ndarray:
    """A bare array as (H, W) or (H, W, 3); an alpha channel is dropped."""
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    is_image = values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (3, 4))
    if values.dtype.kind not in "buif" or not is_image or 0 in values.shape:
        raise DataError(
            f"is an array of shape {values.shape} and type {values.dtype}; (H, W) or (H, W, 3) numbers are needed"
        )
    return values[..., :3] if values.ndim == 3 else values


def _read_picture(source: str | os.PathLike | bytes) -> Contents:
    """Read a file through Pillow.

    Raises:
        PIL.UnidentifiedImageError: Pillow does not know it, or muddles it, as TIFFs of 16-bit colour in planes.
        DataError: It has more pixels than allowed, or several frames.
    """
    with _opened(source) as image:
        _require_one_frame(image)
        _require_parts_inside(image, len(source) if isinstance(source, bytes) else os.stat(source).st_size)
        layouts = {part.args if isinstance(part.args, str) else str(part.args[0]) for part in image.tile if part.args}
        is_tiff = image.format == "TIFF"
        if image.mode in ("RGB", "RGBA") and (
            any(";16" in layout for layout in layouts)
            or (is_tiff and max(image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (8,))) > 8)
        ):
            in_planes = is_tiff and image.tag_v2.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) != 1
            if layouts <= _OTHER_BYTE.keys() and not in_planes:
                return Contents(_read_wide_colour(source))
            if is_tiff:
                raise UnidentifiedImageError("colour of 16 bits in another layout")
            raise DataError("is grey with an alpha channel in 16 bits; save it without the channel, or in 8 bits")
        image.load()
        return _of_picture(ImageOps.exif_transpose(image), image.format)


def _of_picture(image: Image.Image, file_format: str | None) -> Contents:
    is_lossy = file_format in _LOSSY_FORMATS
    if image.mode in _WIDE_MODES:
        return Contents(np.array(image), is_lossy=is_lossy)
    palette = np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3) if image.mode == "P" else None
    alpha = np.asarray(image.convert("RGBA"))[..., 3] if image.has_transparency_data else None
    values = image if image.mode in ("1", "L", "P") else image.convert("RGB")
    return Contents(np.array(values), palette, alpha, is_lossy)


def _opened(source: str | os.PathLike | bytes) -> Image.Image:
    """Open a file within this package's limit. Pillow's own limit is one number for the process: it is put back."""
    Image.init()
    with _lock:
        pillows_own, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            formats = [name for name in FORMATS if name in Image.OPEN]
            image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats)
        except UnidentifiedImageError as error:
            raise UnidentifiedImageError("unknown format") from error  # Pillow's text repeats the path
        finally:
            Image.MAX_IMAGE_PIXELS = pillows_own
    require_size(*image.size)
    return image


def _require_one_frame(image: Image.Image) -> None:
    """Refuse a stack or an animation. The smaller previews that some files carry are allowed."""
    frames = getattr(image, "n_frames", 1)
    if frames == 1 or image.format == "MPO":
        return
    size = image.size
    image.seek(1)
    if image.size == size:
        raise DataError(f"holds {frames} images of the same size (a stack or an animation); one image a file is needed")
    image.seek(0)


def _require_parts_inside(image: Image.Image, file_bytes: int) -> None:
    """Pillow makes room for all bytes from one strip of a TIFF to the next, wherever it claims to be."""
    outside = [part.offset for part in image.tile if part.offset > file_bytes]
    if outside:
        raise DataError(f"claims to hold pixels from byte {outside[0]:,} on, but has {file_bytes:,} bytes")


def _read_wide_colour(source: str | os.PathLike | bytes) -> np.ndarray:
    """uint16 (H, W, 3), upright, transparent pixels black. Pillow gives one byte of each value, so it reads twice."""
    halves = []
    for swapped in (False, True):
        with _opened(source) as image:
            if swapped:
                image.tile = [part._replace(args=_other_byte(part.args)) for part in image.tile]
            image.load()
            halves.append(np.asarray(ImageOps.exif_transpose(image), dtype=np.uint16))
    wide = halves[0] << 8 | halves[1]
    if wide.shape[2] == 4:
        wide = (wide[..., :3] * (wide[..., 3:] / np.float32(65535))).round().astype(np.uint16)
    return wide


def _other_byte(layout: str | tuple) -> str | tuple:
    return _OTHER_BYTE[layout] if isinstance(layout, str) else (_OTHER_BYTE[layout[0]], *layout[1:])


def _read_tiff(source: str | os.PathLike | bytes) -> np.ndarray:
    """Read TIFF kinds that Pillow does not know (wide colour in planes, 64-bit numbers).

    Raises:
        DataError: It is no TIFF, is too large, or a part unpacks to more than the image.
    """
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(source) if isinstance(source, bytes) else Path(source)) as tiff:
            page = tiff.pages.first
            if page.is_imagej and (tiff.imagej_metadata or {}).get("images", 1) != 1:
                raise DataError("holds a stack of images; one image a file is needed")
            if _second_shape(tiff) == page.shape:
                raise DataError("holds several images of the same size (a stack); one image a file is needed")
            limit = max_image_pixels()
            if page.imagewidth * page.imagelength * page.imagedepth > limit or math.prod(page.shape) > 4 * limit:
                raise too_large(f"an array of shape {tuple(page.shape)}")
            _require_honest_parts(page)
            pixels = page.asarray(maxworkers=1)
            in_planes = page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and pixels.ndim == 3
            return np.moveaxis(pixels, 0, 2) if in_planes else pixels
    except tifffile.TiffFileError as error:
        raise DataError("cannot be read as an image (unknown format)") from error


def _second_shape(tiff) -> tuple[int, ...] | None:
    """Of the second page alone: a chain of pages may lead round in circles, and tifffile follows it."""
    try:
        return tiff.pages[1].shape
    except IndexError:
        return None


def _require_honest_parts(page) -> None:
    """tifffile unpacks a strip or tile whole, however much that is. Measure each first, piece by piece."""
    inflaters = {"ADOBE_DEFLATE": zlib.decompressobj, "DEFLATE": zlib.decompressobj, "LZMA": lzma.LZMADecompressor}
    inflater_of = inflaters.get(getattr(page.compression, "name", ""))
    if inflater_of is None:
        return
    most_bytes = page.nbytes + math.prod(page.chunks) * page.dtype.itemsize  # tiles at the edge are padded
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        page.parent.filehandle.seek(offset)
        packed, inflater, total = page.parent.filehandle.read(count), inflater_of(), 0
        while not inflater.eof and total <= most_bytes:
            unpacked = inflater.decompress(packed, _CHUNK)
            packed, total = getattr(inflater, "unconsumed_tail", b""), total + len(unpacked)
            if not unpacked and not packed:
                break
        if total > most_bytes:
            raise DataError(f"has a strip that unpacks to more than the whole image's {most_bytes:,} bytes")
