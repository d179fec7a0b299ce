"""TIFF files of any number type and number of bands, with GDAL's nodata value, masks and overviews."""

import io
import logging
import math
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import tifffile
from PIL import UnidentifiedImageError

from ..errors import DataError
from . import pillow_files
from .contents import Contents
from .limits import TooLarge, max_image_pixels, require_size, too_large

logging.getLogger("tifffile").setLevel(logging.ERROR)  # it warns of nodata values that the number type has not

_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _MASK, _YCBCR = 0, 1, 2, 4, 6
PALETTE = 3
_REDUCED, _IS_MASK = 1, 4  # bits of a page's type
_GDAL_METADATA, _GDAL_NODATA, _ORIENTATION = 42112, 42113, 274
_BAND_NAME = re.compile(r'<Item name="DESCRIPTION" sample="(\d+)"[^>]*>([^<]*)<')
# None, LZW, deflate (two numbers), PackBits, LZMA, Zstandard: what these pack are the bytes of the pixels.
_LOSSLESS = (1, 5, 8, 32946, 32773, 34925, 50000)
_FAX_OR_JPEG = (2, 3, 4, 6, 7)
_ASSOCIATED, _ALPHA = 1, 2  # what an extra band is; of the first, the colours are multiplied by it
# The share of pixels that are neither opaque nor transparent in an alpha channel, and rows that may be all edge.
_MOST_BETWEEN, _A_STRIP = 0.25, 16


def read(source: str | os.PathLike | bytes) -> Contents:
    """Read a TIFF, upright. Several images, and what is too large or of a kind that cannot be read, are errors."""
    try:
        with tifffile.TiffFile(io.BytesIO(source) if isinstance(source, bytes) else Path(source)) as tiff:
            page, mask = _image_and_mask(tiff)
            _require_size(page)
            contents = replace(_contents(page, source), orientation=orientation_of(page))
            if mask is None:
                return _masked_beside(contents, source)
            _require_size(mask)
            return replace(contents, valid=_upright(_numbers(mask)[..., 0] > 0, page))
    except tifffile.TiffFileError as error:
        raise DataError(f"cannot be read as an image ({error})") from error


@contextmanager
def opened_page(path: str | os.PathLike) -> Iterator[tifffile.TiffPage]:
    """Open the one image of a TIFF of any size, for its tags."""
    with tifffile.TiffFile(path) as tiff:
        yield _image_and_mask(tiff)[0]


def contents_of(numbers: np.ndarray, page: tifffile.TiffPage) -> Contents:
    """What (rows, W, bands) numbers are that another library read from a page, by its tags."""
    if page.photometric not in (_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _MASK, _YCBCR) or numbers.dtype.kind not in "buif":
        raise _unknown_kind(page)
    if numbers.shape[1:] != (page.imagewidth, page.samplesperpixel) or page.bitspersample not in (1, 8, 16, 32, 64):
        raise _unknown_kind(page)
    return _of_numbers(numbers.astype(bool) if page.bitspersample == 1 else numbers, page)


def _masked_beside(contents: Contents, source: str | os.PathLike | bytes) -> Contents:
    """With the mask that GDAL keeps in a file of its own, `NAME.tif.msk`, if there is one."""
    if isinstance(source, bytes) or not os.path.isfile(beside := f"{os.fspath(source)}.msk"):
        return contents
    with tifffile.TiffFile(beside) as tiff:
        page = tiff.pages.first
        _require_size(page)
        valid = _numbers(page)[..., 0] > 0
    if valid.shape != contents.values.shape[:2]:
        raise DataError(f"has another size than its mask {beside}")
    return replace(contents, valid=valid)


def _image_and_mask(tiff: tifffile.TiffFile) -> tuple[tifffile.TiffPage, tifffile.TiffPage | None]:
    """The one image of a file, and GDAL's mask of it. Overviews and previews are smaller, and passed over."""
    first, pages = tiff.pages.first, {}
    if first.is_imagej and (tiff.imagej_metadata or {}).get("images", 1) != 1:
        raise DataError("holds a stack of images; one image a file is needed")
    with suppress(IndexError):
        while (page := tiff.pages[len(pages)]).offset not in pages:  # a chain may lead in circles
            pages[page.offset] = page
    images = [page for page in pages.values() if not page.subfiletype & (_REDUCED | _IS_MASK)] or [first]
    page = images[0]
    same = sum(other.shape == page.shape for other in images)
    if same > 1:
        raise DataError(f"holds {same} images of the same size (a stack); one image a file is needed")
    size = (page.imagelength, page.imagewidth)
    masks = [other for other in pages.values() if other.subfiletype & _IS_MASK and other is not page]
    return page, next((mask for mask in masks if (mask.imagelength, mask.imagewidth) == size), None)


def _require_size(page: tifffile.TiffPage) -> None:
    require_size(page.imagewidth, page.imagelength)
    tile = page.tilelength * page.tilewidth if page.is_tiled else 0
    if max(math.prod(page.shape) / 4, tile) > max_image_pixels():
        raise too_large(f"an array of shape {page.shape}", DataError if tile > max_image_pixels() else TooLarge)
    if page.imagedepth != 1:
        raise DataError(f"is an array of shape {page.shape}; one image is needed")


def _contents(page: tifffile.TiffPage, source: str | os.PathLike | bytes) -> Contents:
    """All bands of a page: numbers by tifffile, everything else (palettes, JPEG, fax, ...) by Pillow."""
    if _is_plain(page):
        return _of_numbers(_upright(_numbers(page), page), page)
    if page.compression in _LOSSLESS + _FAX_OR_JPEG:
        with suppress(UnidentifiedImageError):
            contents = pillow_files.read(source, page.index)
            return replace(
                contents,
                is_lossy=page.compression in (6, 7),
                nodata=_nodata(page, contents.values.dtype),
                is_min_white=page.photometric == _MIN_IS_WHITE,
            )
    raise _unknown_kind(page)


def _unknown_kind(page: tifffile.TiffPage) -> DataError:
    colours, packing = (getattr(kind, "name", kind) for kind in (page.photometric, page.compression))
    bits = f"{page.samplesperpixel} x {page.bitspersample} bits"
    return DataError(
        f"is a TIFF of {bits}, {colours}, compressed with {packing}, which is not read: save it with deflate"
    )


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


def _of_numbers(channels: np.ndarray, page: tifffile.TiffPage) -> Contents:
    """(H, W, bands) with what the page's tags say of them."""
    is_rgb, count, nodata = page.photometric == _RGB, channels.shape[2], _nodata(page, channels.dtype)
    extra = [int(kind) for kind in page.extrasamples] or [_ALPHA] * (is_rgb and count == 4)
    colours, alpha = 3 if is_rgb else None, None
    if extra and (extra[-1] == _ASSOCIATED or extra[-1] == _ALPHA and _is_alpha(channels[..., -1])):
        colours, alpha = colours or count - 1, channels[..., -1]
        if extra[-1] == _ASSOCIATED:  # the colours lie over black already
            alpha = (alpha > 0) * np.uint8(255)
    is_min_white = page.photometric == _MIN_IS_WHITE and channels.dtype.kind in "bu"
    if is_min_white:
        top = True if channels.dtype == bool else np.iinfo(channels.dtype).max
        channels, nodata = top ^ channels, None if nodata is None else top - nodata
    found = _BAND_NAME.findall(page.tags.valueof(_GDAL_METADATA, ""))
    named = {int(band): unescape(unescape(name)) for band, name in found}  # GDAL escapes names twice
    names = tuple(named.get(band, "") for band in range(count)) if named else ()
    return Contents(channels, alpha=alpha, nodata=nodata, is_min_white=is_min_white, colours=colours, names=names)


def _is_alpha(channel: np.ndarray) -> bool:
    """Whether a band that is called alpha is one. GDAL calls the fourth of four so, which may be near infrared."""
    top = 1 if channel.dtype.kind in "bf" else np.iinfo(channel.dtype).max
    return len(channel) < _A_STRIP or ((channel > 0) & (channel < top)).mean() <= _MOST_BETWEEN


def _nodata(page: tifffile.TiffPage, dtype: np.dtype) -> float | int | None:
    """GDAL's nodata value if the number type has it; text, as GDAL writes it."""
    text = str(page.tags.valueof(_GDAL_NODATA, "")).strip("\0 ")
    if not text:
        return None
    try:
        value = int(text) if text.lstrip("+-").isdigit() else float(text)
    except ValueError as error:
        raise DataError(f"has a nodata value (GDAL's tag) that is no number: {text!r}") from error
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return None if math.isnan(value) else float(dtype.type(value))
    limits = np.iinfo(np.uint8 if dtype.kind == "b" else dtype)
    return int(value) if limits.min <= value <= limits.max and value == int(value) else None


def orientation_of(page: tifffile.TiffPage) -> int:
    """How a page is stored, 1 to 8; 1 if it is upright."""
    value = page.tags.valueof(_ORIENTATION, 1)
    return int(value) if value in range(1, 9) else 1


def _upright(array: np.ndarray, page: tifffile.TiffPage) -> np.ndarray:
    orientation = orientation_of(page)
    array = array.swapaxes(0, 1) if orientation >= 5 else array
    return array[:: -1 if orientation in (3, 4, 7, 8) else 1, :: -1 if orientation in (2, 3, 6, 7) else 1]


def _numbers(page: tifffile.TiffPage) -> np.ndarray:
    """(H, W, bands). tifffile puts strips and tiles in place, and is given them unpacked."""
    if not _is_plain(page):
        raise DataError(f"has a mask compressed with {getattr(page.compression, 'name', page.compression)}")
    compression, predictor, count = int(page.compression), page.predictor, math.prod(page.chunked)
    page.compression, page.predictor = 1, 2 if predictor == 2 else 1
    if min(len(page.dataoffsets), len(page.databytecounts)) < count:
        raise DataError(f"has {len(page.dataoffsets)} parts of {count}: it is cut off")
    out = np.full(page.shaped, _nodata(page, page.dtype) or 0, page.dtype)
    for number in range(count):
        _, (plane, _, top, left, _), (_, rows, columns, samples) = page.decode(None, number)
        if page.databytecounts[number]:  # GDAL leaves out parts that hold nothing
            row_bytes = math.ceil(columns * samples * page.bitspersample / 8)
            content = _unpacked(page, number, compression, rows, row_bytes)
            part, _, _ = page.decode(_floats(content, page, rows) if predictor == 3 else content, number)
            inside = out[plane, 0, top : top + rows, left : left + columns]
            inside[...] = part[0, : len(inside), : inside.shape[1]]
    return np.moveaxis(out[:, 0], 0, 2).reshape(page.imagelength, page.imagewidth, -1)


def _unpacked(page: tifffile.TiffPage, number: int, compression: int, rows: int, row_bytes: int) -> bytes:
    """A strip or tile. libtiff unpacks no more than these bytes: to it the part is a grey image."""
    file, offset = page.parent.filehandle, page.dataoffsets[number]
    size = rows * row_bytes if compression == 1 else page.databytecounts[number]
    if offset + size > file.size:
        raise DataError(f"claims to hold pixels from byte {offset:,} on, but has {file.size:,} bytes")
    file.seek(offset)
    packed = file.read(size)
    if compression == 1:
        return packed
    tags = ((256, row_bytes), (257, rows), (258, 8), (259, compression), (262, _MIN_IS_BLACK), (273, 122), (277, 1),
            (278, rows), (279, size))  # fmt: skip
    header = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    header += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags) + bytes(4)
    with pillow_files.opened(header + packed, is_limited=False) as image:
        return image.tobytes()


def _floats(content: bytes, page: tifffile.TiffPage, rows: int) -> bytes:
    """Numbers from differences of their bytes, the first bytes of a row first; tifffile needs imagecodecs for it."""
    differences = np.frombuffer(content, np.uint8).reshape(rows, -1, page.shaped[-1])
    values = np.cumsum(differences, axis=1, dtype=np.uint8).reshape(rows, page.dtype.itemsize, -1).swapaxes(1, 2)
    return values[..., :: 1 if page.parent.byteorder == ">" else -1].tobytes()
