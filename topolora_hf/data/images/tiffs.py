"""TIFF files of any number type and number of bands, with GDAL's nodata value, masks and overviews."""

import io
import logging
import math
import os
import struct
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile
from PIL import UnidentifiedImageError

from ..errors import DataError
from ..geotags import read_geotags
from . import pillow_files
from .contents import Contents
from .limits import max_image_pixels, too_large

logging.getLogger("tifffile").setLevel(logging.ERROR)  # it warns of nodata values that the number type has not

_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _MASK = 0, 1, 2, 4
_REDUCED, _IS_MASK = 1, 4  # bits of a page's type
_GDAL_NODATA, _ORIENTATION = 42113, 274
# None, LZW, deflate (two numbers), PackBits, LZMA, Zstandard: what these pack are the bytes of the pixels.
_LOSSLESS = (1, 5, 8, 32946, 32773, 34925, 50000)
_FAX_OR_JPEG = (2, 3, 4, 6, 7)
_ASSOCIATED, _ALPHA = 1, 2  # what an extra band is; of the first, the colours are multiplied by it


def read(source: str | os.PathLike | bytes) -> Contents:
    """Read a TIFF, upright.

    Raises:
        DataError: It holds several images, is too large, is broken, or of a kind that cannot be read.
    """
    try:
        with tifffile.TiffFile(io.BytesIO(source) if isinstance(source, bytes) else Path(source)) as tiff:
            page, mask = _image_and_mask(tiff)
            _require_size(page)
            contents = replace(_contents(page, source), geotags=read_geotags(page))
            if mask is not None:
                contents = _turned(contents, page, _numbers(mask)[..., 0] > 0)
            return contents
    except tifffile.TiffFileError as error:
        raise DataError(f"cannot be read as an image ({error})") from error


def _image_and_mask(tiff: tifffile.TiffFile) -> tuple[tifffile.TiffPage, tifffile.TiffPage | None]:
    """The one image of a file, and GDAL's mask of it. Overviews and previews are smaller, and passed over."""
    first = tiff.pages.first
    if first.is_imagej and (tiff.imagej_metadata or {}).get("images", 1) != 1:
        raise DataError("holds a stack of images; one image a file is needed")
    pages = {}
    with suppress(IndexError):
        while (page := tiff.pages[len(pages)]).offset not in pages:  # a chain may lead in circles
            pages[page.offset] = page
    pages = pages.values()
    images = [page for page in pages if not page.subfiletype & (_REDUCED | _IS_MASK)] or [first]
    page = images[0]
    same = sum(other.shape == page.shape for other in images)
    if same > 1:
        raise DataError(f"holds {same} images of the same size (a stack); one image a file is needed")
    size = (page.imagelength, page.imagewidth)
    masks = [other for other in pages if other.subfiletype & _IS_MASK and other is not page]
    return page, next((mask for mask in masks if (mask.imagelength, mask.imagewidth) == size), None)


def _require_size(page: tifffile.TiffPage) -> None:
    limit, shape = max_image_pixels(), tuple(page.shape)
    part = page.tilelength * page.tilewidth if page.is_tiled else 0
    if page.imagewidth * page.imagelength * page.imagedepth > limit or math.prod(shape) > 4 * limit or part > limit:
        raise too_large(f"an array of shape {shape}")
    if page.imagewidth < 1 or page.imagelength < 1 or page.imagedepth != 1:
        raise DataError(f"is an array of shape {shape}; one image is needed")


def _contents(page: tifffile.TiffPage, source: str | os.PathLike | bytes) -> Contents:
    """All bands of a page: numbers by the decoder below, everything else (palettes, JPEG, fax, ...) by Pillow."""
    if _is_plain(page):
        return _turned(_of_numbers(_numbers(page), page), page)
    if page.compression in _FAX_OR_JPEG or page.compression in _LOSSLESS:
        with suppress(UnidentifiedImageError):
            contents = pillow_files.read(source, page.index)
            return replace(
                contents,
                is_lossy=page.compression in (6, 7),
                nodata=_nodata(page, contents.values.dtype),
                is_min_white=page.photometric == _MIN_IS_WHITE,
                orientation=_orientation(page),
            )
    return _by_codecs(page)


def _is_plain(page: tifffile.TiffPage) -> bool:
    """Whether values lie in a page as numbers of whole bytes, or as bits."""
    in_planes = page.planarconfig == 2 or page.samplesperpixel == 1
    return (
        page.compression in _LOSSLESS
        and page.photometric in (_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _MASK)
        and (page.bitspersample in (8, 16, 32, 64) or (page.bitspersample == 1 and in_planes))
        and page.dtype is not None
        and page.dtype.kind in "buif"
        and page.fillorder == 1
        and page.predictor in (1, 2, 3)
    )


def _by_codecs(page: tifffile.TiffPage) -> Contents:
    """Compressions that need the package imagecodecs."""
    try:
        values = page.asarray(maxworkers=1)
    except (ValueError, KeyError, NotImplementedError) as error:
        what = f"{page.samplesperpixel} x {page.bitspersample} bits, {getattr(page.photometric, 'name', 'no colours')}"
        raise DataError(
            f"is a TIFF of {what}, compressed with {getattr(page.compression, 'name', page.compression)}: save it with "
            f"deflate, or pip install imagecodecs ({error})"
        ) from error
    if page.samplesperpixel > 1 and page.planarconfig == 2:
        values = np.moveaxis(values, 0, -1)
    contents = _of_numbers(values.reshape(page.imagelength, page.imagewidth, -1), page)
    return _turned(replace(contents, is_lossy=True), page)


def _of_numbers(channels: np.ndarray, page: tifffile.TiffPage) -> Contents:
    """(H, W, bands) with what the page's tags say of them."""
    is_rgb, count, nodata = page.photometric == _RGB, channels.shape[2], _nodata(page, channels.dtype)
    extra = [int(kind) for kind in page.extrasamples] or [_ALPHA] * (is_rgb and count == 4)
    colours, alpha = 3 if is_rgb else None, None
    if extra and extra[-1] in (_ASSOCIATED, _ALPHA):
        colours, alpha = colours or count - 1, channels[..., -1]
        if extra[-1] == _ASSOCIATED:
            channels = np.dstack([_divided(channels[..., :-1], alpha), alpha])
    is_min_white = page.photometric == _MIN_IS_WHITE and channels.dtype.kind in "bu"
    if is_min_white:
        top = True if channels.dtype == bool else np.iinfo(channels.dtype).max
        channels, nodata = top ^ channels, None if nodata is None else top - nodata
    return Contents(channels, alpha=alpha, nodata=nodata, is_min_white=is_min_white, colours=colours)


def _divided(channels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colours that were multiplied by alpha, as they were before."""
    top = 1 if channels.dtype.kind == "f" else np.iinfo(channels.dtype).max
    share = np.maximum(alpha[..., None], 1e-12) / top
    divided = np.where(alpha[..., None] > 0, np.clip(channels / share, 0, top), 0)
    return (divided if channels.dtype.kind == "f" else np.rint(divided)).astype(channels.dtype)


def _nodata(page: tifffile.TiffPage, dtype: np.dtype) -> float | int | None:
    """GDAL's nodata value if the number type has it; text, as GDAL writes it."""
    tag = page.tags.get(_GDAL_NODATA)
    text = str(tag.value).strip("\0 ") if tag else ""
    if not text:
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise DataError(f"has a nodata value (GDAL's tag) that is no number: {text!r}") from error
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return None if math.isnan(value) else float(dtype.type(value))
    limits = np.iinfo(np.uint8 if dtype.kind == "b" else dtype)
    fits = value.is_integer() and limits.min <= value <= limits.max
    return (int(text) if text.lstrip("+-").isdigit() else int(value)) if fits else None


def _orientation(page: tifffile.TiffPage) -> int:
    tag = page.tags.get(_ORIENTATION)
    return int(tag.value) if tag and tag.value in range(1, 9) else 1


def _turned(contents: Contents, page: tifffile.TiffPage, valid: np.ndarray | None = None) -> Contents:
    """Turn the values, or only `valid` if given, as the page's orientation says."""
    orientation = _orientation(page)

    def turn(array: np.ndarray | None) -> np.ndarray | None:
        if array is None:
            return None
        if orientation >= 5:
            array = array.swapaxes(0, 1)
        rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
        return array[rows, :: -1 if orientation in (2, 3, 6, 7) else 1]

    if valid is not None:
        return replace(contents, valid=turn(valid))
    return replace(contents, values=turn(contents.values), alpha=turn(contents.alpha), orientation=orientation)


def _numbers(page: tifffile.TiffPage) -> np.ndarray:
    """Decode strips or tiles, contiguous or in planes, to (H, W, bands)."""
    if not _is_plain(page):
        raise DataError(f"has a mask compressed with {getattr(page.compression, 'name', page.compression)}")
    height, width, bands = page.imagelength, page.imagewidth, page.samplesperpixel
    planes, samples = (bands, 1) if page.planarconfig == 2 else (1, bands)
    down, across = (page.tilelength, page.tilewidth) if page.is_tiled else (min(page.rowsperstrip, height), width)
    columns = math.ceil(width / across)
    parts = math.ceil(height / down) * columns
    if len(page.dataoffsets) < planes * parts or len(page.databytecounts) < planes * parts:
        raise DataError(f"has {len(page.dataoffsets)} parts of {planes * parts}: it is cut off")
    dtype = np.dtype(bool) if page.bitspersample == 1 else page.dtype.newbyteorder("=")
    nodata = _nodata(page, dtype)
    out = np.zeros((height, width, bands), dtype) if not nodata else np.full((height, width, bands), nodata, dtype)
    for number in range(planes * parts):
        plane, (row, column) = number // parts, divmod(number % parts, columns)
        top, left, offset = row * down, column * across, page.dataoffsets[number]
        if not page.databytecounts[number]:  # GDAL leaves out parts that hold nothing
            continue
        shape = (down if page.is_tiled else min(down, height - top), across, samples)
        part = _part(page, offset, page.databytecounts[number], shape)
        out[top : top + down, left : left + across, plane : plane + samples] = part[: height - top, : width - left]
    return out


def _part(page: tifffile.TiffPage, offset: int, count: int, shape: tuple[int, int, int]) -> np.ndarray:
    """One strip or tile, (rows, columns, samples)."""
    rows, columns, samples = shape
    row_bytes = math.ceil(columns * samples * page.bitspersample / 8)
    file = page.parent.filehandle
    if offset + (rows * row_bytes if page.compression == 1 else count) > file.size:
        raise DataError(f"claims to hold pixels from byte {offset:,} on, but has {file.size:,} bytes")
    file.seek(offset)
    packed = file.read(rows * row_bytes if page.compression == 1 else count)
    lines = _unpacked(packed, int(page.compression), rows, row_bytes)
    if page.bitspersample == 1:
        return np.unpackbits(lines, axis=1)[:, :columns, None].astype(bool)
    if page.predictor == 3:  # of floats: differences of their bytes, the first bytes of all numbers first
        lines = np.cumsum(lines.reshape(rows, -1, samples), axis=1, dtype=np.uint8)
        lines = lines.reshape(rows, page.dtype.itemsize, -1).swapaxes(1, 2)
        return np.ascontiguousarray(lines).view(page.dtype.newbyteorder(">")).reshape(shape)
    values = lines.view(page.dtype.newbyteorder(page.parent.byteorder)).reshape(shape)
    if page.predictor == 2:
        values = np.cumsum(values, axis=1, dtype=page.dtype.newbyteorder("="))
    return values


def _unpacked(packed: bytes, compression: int, rows: int, row_bytes: int) -> np.ndarray:
    """uint8 (rows, row_bytes). libtiff unpacks no more than that: it is given the part as a grey image of bytes."""
    if compression == 1:
        return np.frombuffer(packed, np.uint8).reshape(rows, row_bytes)
    tags = ((256, row_bytes), (257, rows), (258, 8), (259, compression), (262, _MIN_IS_BLACK), (273, 122), (277, 1),
            (278, rows), (279, len(packed)))  # fmt: skip
    header = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    header += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags) + bytes(4)
    with pillow_files.opened(header + packed, is_limited=False) as image:
        return np.asarray(image)
