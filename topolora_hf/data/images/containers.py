"""Any image file to an array and what the file says of it. Nothing is decoded before its claimed size is checked."""

import gzip
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from ..errors import DataError
from . import pillow_files, tiffs
from .contents import Contents
from .limits import PIXELS_VARIABLE, TooLarge, max_image_pixels, require_size

Source = str | os.PathLike[str] | bytes | Image.Image
Result = TypeVar("Result")

_NPY_MAGIC = b"\x93NUMPY"
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_contents(source: Source, bands: Sequence[int] | None = None) -> Contents:
    """Read an image file of any format that is known here.

    Args:
        source: A path, the encoded file itself as bytes, or an opened PIL image.
        bands: Numbers of the one or three bands to take, from 1; an alpha channel is the last band.

    Raises:
        DataError: It is no plain file, holds several images, is too large, holds no image, or has not these bands.
        Exception: Whatever a library raises for a broken file. `guarded` turns it into a `DataError`.
    """
    return interpreted(_read(source), bands)


def interpreted(contents: Contents, bands: Sequence[int] | None) -> Contents:
    """Choose bands of what a reader returned, all bands of a file, and find its valid pixels. DataError as above."""
    indices = None if contents.palette is None else contents.values  # which of them is no data, not which colour
    contents = _chosen(contents, bands) if bands else _colours(contents)
    return replace(contents, valid=_valid_pixels(contents, indices))


def guarded(read: Callable[[Source], Result], source: Source, name: str | None = None) -> Result:
    """Call `read(source)`. Whatever a broken file makes it raise becomes one `DataError` with the file's name."""
    name = name or shown(source)
    try:
        return read(source)
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such file") from error
    except DataError as error:
        raise (TooLarge if isinstance(error, TooLarge) else DataError)(f"{name}: {error}") from error
    except MemoryError as error:
        raise DataError(f"{name}: there is not enough memory to decode it") from error
    except Exception as error:  # OSError, SyntaxError, struct.error, ... depending on where a file breaks
        raise DataError(f"{name}: cannot be read as an image ({str(error) or type(error).__name__})") from error


def shown(source: Source) -> str:
    """What to call it in errors and warnings."""
    return str(source) if isinstance(source, str | os.PathLike) else f"an image given as {type(source).__name__}"


def _read(source: Source) -> Contents:
    """All bands of a file: `values` (H, W) or (H, W, bands), and `alpha` in its own number type."""
    if isinstance(source, Image.Image):
        return pillow_files.contents_of(source)
    if not isinstance(source, bytes):
        if not stat.S_ISREG(os.stat(source).st_mode):  # reading a pipe would wait for ever
            raise DataError("is not a plain file")
        suffix = Path(source).suffix.lower()
        if suffix == ".npy":
            return Contents(_read_npy(source))
        source = _unpacked(source) if suffix == ".gz" else source
    start = pillow_files.first_bytes(source, len(_NPY_MAGIC))
    if isinstance(source, bytes) and start == _NPY_MAGIC:
        raise DataError("is a .npy file inside another; save it as a file of its own")
    return (tiffs if start[:4] in _TIFF_MAGIC else pillow_files).read(source)


def _unpacked(source: str | os.PathLike) -> bytes:
    limit = 4 * max_image_pixels()  # bytes
    with gzip.open(source) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        now = f"{PIXELS_VARIABLE} (now {limit // 4:,})"
        raise DataError(f"unpacks to more than {limit:,} bytes; if that is meant, raise {now}")
    return content


def _read_npy(path: str | os.PathLike) -> np.ndarray:
    """Mapped first: numpy checks that the file is as long as its header says, and makes no room for it."""
    values = np.load(path, mmap_mode="r", allow_pickle=False)
    is_image = values.ndim == 2 or (values.ndim == 3 and (values.shape[2] <= 4 or values.shape[2] < values.shape[0]))
    if values.dtype.kind not in "buif" or 0 in values.shape or not is_image:
        kind = f"shape {values.shape} and type {values.dtype}"
        raise DataError(f"is an array of {kind}; (H, W) or (H, W, bands) numbers are needed")
    require_size(values.shape[1], values.shape[0])
    return np.array(values)


def _colours(contents: Contents) -> Contents:
    """Grey or RGB as it is. Of other numbers of bands, which are red, green and blue is not known."""
    values, alpha = contents.values, contents.alpha
    if values.ndim == 3:
        values = values[..., : contents.colours]
        count = values.shape[2]
        if count not in (1, 3):
            found = f"has {count} bands of {values.dtype}{_named(contents)}"
            raise DataError(
                f"{found}, and which of them are red, green and blue is not known: name three, or one for grey, with "
                f"bands (--bands {'1 2 3' if count > 2 else '1'})"
            )
        values = values[..., 0] if count == 1 else values
    if alpha is not None and alpha.dtype != np.uint8:
        top = 1 if alpha.dtype.kind == "f" else np.iinfo(alpha.dtype).max
        if not ((alpha >= 0) & (alpha <= top)).all():
            raise DataError(f"has an alpha channel with values outside 0 to {top}: name the other bands (--bands)")
        alpha = np.rint(alpha * (255 / top)).astype(np.uint8)
    return replace(contents, values=values, alpha=alpha)


def _chosen(contents: Contents, bands: Sequence[int]) -> Contents:
    """The bands that were asked for, in that order. None of them is alpha."""
    asked = " ".join(map(str, bands))
    if len(bands) not in (1, 3) or not all(isinstance(band, int) and band >= 1 for band in bands):
        raise DataError(f"bands must be one or three numbers from 1 on, got {asked}")
    values = contents.values if contents.palette is None else contents.palette[contents.values]
    channels = _channels(values)
    if max(bands) > channels.shape[2]:
        raise DataError(f"has {channels.shape[2]} band(s){_named(contents)}, and bands {asked} are asked for")
    values = channels[..., bands[0] - 1] if len(bands) == 1 else channels[..., [band - 1 for band in bands]]
    return replace(contents, values=values, palette=None, alpha=None)


def _named(contents: Contents) -> str:
    """The names of the bands that have one.

    >>> _named(Contents(np.zeros((1, 1, 3)), names=("red", "", "nir")))
    ' (1 red, 3 nir)'
    """
    named = [f"{number} {name}" for number, name in enumerate(contents.names, start=1) if name]
    return f" ({', '.join(named)})" if named else ""


def _valid_pixels(contents: Contents, indices: np.ndarray | None) -> np.ndarray | None:
    """Where there is data: a number in each channel, not `nodata` in all of them, inside the file's own mask."""
    channels = _channels(contents.values)
    valid = np.ones(channels.shape[:2], bool) if contents.valid is None else contents.valid
    if channels.dtype.kind == "f":
        valid = valid & np.isfinite(channels).all(axis=2)
    if contents.nodata is not None:
        valid = valid & (_channels(contents.values if indices is None else indices) != contents.nodata).any(axis=2)
    return None if valid.all() else valid


def _channels(values: np.ndarray) -> np.ndarray:
    return values[..., None] if values.ndim == 2 else values
