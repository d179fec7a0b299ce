"""Encoded image files to pictures and arrays: what they claim is checked before any pixel is decoded."""

import functools
import gzip
import io
import lzma
import math
import os
import stat
import sys
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tifffile
from numpy.lib import format as npy
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from .errors import DataError
from .limits import (
    PIXELS_VARIABLE,
    max_file_bytes,
    max_image_pixels,
    pillow_within_limit,
    require_size,
    too_large,
)

# What Pillow may open, whatever a file is called. Others (EPS, FITS, WMF, ...) start programs or are no photographs.
FORMATS = ("PNG", "JPEG", "TIFF", "GIF", "BMP", "DIB", "PPM", "WEBP", "JPEG2000", "AVIF")
_NPY_MAGIC = b"\x93NUMPY"
_NPY_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_INFLATERS = {
    tifffile.COMPRESSION.ADOBE_DEFLATE: zlib.decompressobj,
    tifffile.COMPRESSION.DEFLATE: zlib.decompressobj,
    tifffile.COMPRESSION.LZMA: lzma.LZMADecompressor,
}
_CHUNK = 2**20
# Pillow's names of colour in 16 bits, of which it keeps the high byte, to those by which it keeps the low one.
_ORDERS = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_OTHER_ORDER = {f"{mode};16{own}": f"{mode};16{other}" for mode in ("RGB", "RGBA") for own, other in _ORDERS.items()}

Source = str | os.PathLike[str] | bytes | Image.Image


def content(source: Source) -> Source:
    """The source, or what a compressed file holds, as bytes.

    Raises:
        DataError: It is no plain file, such as a folder or a pipe, or unpacks to more than an image may.
    """
    if not isinstance(source, str | os.PathLike):
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


def numpy_array(source: Source) -> np.ndarray | None:
    """The array of a .npy file, None for other files.

    Raises:
        DataError: It is not (H, W) or (H, W, C) numbers, is too large, or the file ends before it does.
    """
    if isinstance(source, bytes):
        return _read_npy(io.BytesIO(source), len(source)) if source.startswith(_NPY_MAGIC) else None
    if isinstance(source, str | os.PathLike) and Path(source).suffix.lower() == ".npy":
        with open(source, "rb") as file:
            return _read_npy(file, os.fstat(file.fileno()).st_size)
    return None


def _read_npy(file: BinaryIO, file_bytes: int) -> np.ndarray:
    """numpy makes room for what the header claims before it looks whether it is there."""
    version = npy.read_magic(file)
    if version not in _NPY_HEADERS:
        raise DataError(f"is a .npy file of version {version}; 1.0 and 2.0 can be read")
    try:
        shape, _, dtype = _NPY_HEADERS[version](file)
    except (MemoryError, RecursionError) as error:  # a header of nothing but brackets
        raise DataError("has a header that is none of numpy's") from error
    if len(shape) not in (2, 3) or min(shape) < 1 or dtype.kind not in "buif":
        raise DataError(f"is an array of shape {shape} and type {dtype}; (H, W) or (H, W, 3) numbers are needed")
    require_size(shape[1], shape[0])
    there, needed = file_bytes - file.tell(), math.prod(shape) * dtype.itemsize
    if there < needed:
        raise DataError(f"ends early: {there:,} of the {needed:,} bytes that its header announces are there")
    file.seek(0)
    return npy.read_array(file, allow_pickle=False)


def open_picture(source: Source) -> Image.Image:
    """Opens and decodes an image of one frame, upright, keeping `format` for the caller.

    Raises:
        PIL.UnidentifiedImageError: It is in none of `FORMATS`, or of a kind that Pillow does not know, or of which it
            would keep the high byte of 16-bit colours alone: `read_unusual` may know it.
        DataError: It has more pixels than allowed, or several frames.
    """
    if isinstance(source, Image.Image):
        return ImageOps.exif_transpose(source)
    with pillow_within_limit(), _opened(source) as image:
        require_size(*image.size)
        _require_one_frame(image)
        _require_parts_inside(image, len(source) if isinstance(source, bytes) else os.stat(source).st_size)
        if _is_wide_colour(image):
            raise UnidentifiedImageError("colour of 16 bits")
        image.load()
        upright = ImageOps.exif_transpose(image)
        upright.format = image.format
        return upright


@functools.cache
def _known_formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _require_one_frame(image: Image.Image) -> None:
    """A stack or an animation is not one image; the smaller previews that some files carry are."""
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
    outside = [part[2] for part in image.tile if part[2] > file_bytes]
    if outside:
        raise DataError(f"claims to hold pixels from byte {outside[0]:,} on, but has {file_bytes:,} bytes")


def _raw_modes(image: Image.Image) -> set[str]:
    """How an opened file's pixels lie in it, in Pillow's terms, such as `RGB;16B`."""
    arguments = [part.args for part in image.tile]
    return {each if isinstance(each, str) else str(each[0]) for each in arguments if each}


def _is_wide_colour(image: Image.Image) -> bool:
    if image.mode not in ("RGB", "RGBA"):
        return False
    if image.format == "TIFF":
        return max(image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (8,))) > 8
    return any(";16" in mode for mode in _raw_modes(image))


def _in_planes(image: Image.Image) -> bool:
    """Whether a TIFF holds all of the red, then all of the green: Pillow muddles those of 16 bits."""
    return image.tag_v2.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) != 1


def read_unusual(source: Source) -> np.ndarray:
    """Reads what `open_picture` cannot: colour of 16 bits, (H, W, 3), and TIFF kinds that Pillow does not know.

    Raises:
        DataError: It is neither, is too large, or its parts unpack to more than the image.
    """
    try:
        with pillow_within_limit(), _opened(source) as image:
            is_tiff = image.format == "TIFF"
            has_two_orders = _raw_modes(image) <= _OTHER_ORDER.keys() and not (is_tiff and _in_planes(image))
    except UnidentifiedImageError:
        return _scientific_tiff(source)
    if has_two_orders:
        return _wide_colour(source)
    if is_tiff:
        return _scientific_tiff(source)
    raise DataError("is grey with an alpha channel in 16 bits; save it without the channel, or in 8 bits")


def _opened(source: Source) -> Image.Image:
    return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_known_formats())


def _wide_colour(source: Source) -> np.ndarray:
    """uint16 (H, W, 3), upright, transparent pixels black: Pillow's high bytes, and the low ones, which it takes for
    the high ones of a file in the other order."""
    halves = []
    for swapped in (False, True):
        with pillow_within_limit(), _opened(source) as image:
            if swapped:
                image.tile = [part._replace(args=_in_other_order(part.args)) for part in image.tile]
            image.load()
            halves.append(np.asarray(ImageOps.exif_transpose(image), dtype=np.uint16))
    wide = halves[0] << 8 | halves[1]
    if wide.shape[2] == 4:
        wide = (wide[..., :3] * (wide[..., 3:] / np.float32(65535))).round().astype(np.uint16)
    return wide


def _in_other_order(arguments: str | tuple) -> str | tuple:
    if isinstance(arguments, str):
        return _OTHER_ORDER[arguments]
    return _OTHER_ORDER[arguments[0]], *arguments[1:]


def _scientific_tiff(source: Source) -> np.ndarray:
    """Reads TIFF kinds that Pillow does not know (wide colour, 64-bit numbers), through tifffile.

    Raises:
        DataError: It is no TIFF, is too large, or its parts unpack to more than the image.
    """
    try:
        with tifffile.TiffFile(io.BytesIO(source) if isinstance(source, bytes) else Path(source)) as tiff:
            page = tiff.pages.first
            _require_one_page(tiff, page)
            _require_room(page)
            _require_honest_segments(page)
            pixels = page.asarray(maxworkers=1)
            planes_first = page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and pixels.ndim == 3
            return np.moveaxis(pixels, 0, 2) if planes_first else pixels
    except tifffile.TiffFileError as error:
        raise DataError("cannot be read as an image (unknown format)") from error


def _require_one_page(tiff: tifffile.TiffFile, first: tifffile.TiffPage) -> None:
    """Looks at the second page alone: a chain of pages may lead round in circles, and tifffile follows it."""
    if first.is_imagej and (tiff.imagej_metadata or {}).get("images", 1) != 1:
        raise DataError("holds a stack of images; one image a file is needed")
    try:
        second = tiff.pages[1]
    except IndexError:
        return
    if second.shape == first.shape:
        raise DataError("holds several images of the same size (a stack); one image a file is needed")


def _require_room(page: tifffile.TiffPage) -> None:
    limit = max_image_pixels()
    if page.imagewidth * page.imagelength * page.imagedepth > limit or math.prod(page.shape) > 4 * limit:
        raise too_large(f"an array of shape {tuple(page.shape)}", limit)


def _require_honest_segments(page: tifffile.TiffPage) -> None:
    """tifffile unpacks a strip or tile whole, however much that is; it is measured first, piece by piece."""
    if page.compression not in _INFLATERS:
        return
    # Tiles at the edge are whole ones, padded.
    most_bytes = page.nbytes + math.prod(page.chunks) * page.dtype.itemsize
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        page.parent.filehandle.seek(offset)
        packed = page.parent.filehandle.read(count)
        if _unpacked_exceeds(_INFLATERS[page.compression](), packed, most_bytes):
            raise DataError(f"has a strip that unpacks to more than the whole image's {most_bytes:,} bytes")


def _unpacked_exceeds(inflater, packed: bytes, limit: int) -> bool:
    total, left = 0, packed
    while not inflater.eof:
        unpacked = inflater.decompress(left, _CHUNK)
        left = getattr(inflater, "unconsumed_tail", b"")
        total += len(unpacked)
        if total > limit:
            return True
        if not unpacked and not left:
            return False
    return False
