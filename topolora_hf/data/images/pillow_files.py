"""Image files through Pillow: every format but TIFF and .npy, and those kinds of TIFF that are no plain numbers."""

import io
import os
import sys
import threading
from dataclasses import replace

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import DataError
from .contents import Contents
from .limits import require_size

# What Pillow may open, whatever a file is called. Others (EPS, FITS, WMF, ...) start programs or are no photographs.
FORMATS = ("PNG", "JPEG", "TIFF", "GIF", "BMP", "DIB", "PPM", "WEBP", "JPEG2000", "AVIF")
# A mask stored in one of these has values near, not at, its two levels.
_LOSSY_FORMATS = ("JPEG", "MPO", "WEBP", "JPEG2000", "AVIF")
_WIDE_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
_ORIENTATION = 0x0112
# The codestream of JPEG 2000. The bits of a value stand 42 bytes on.
_JPEG_2000_START = b"\xff\x4f\xff\x51"
# Of 16-bit colour Pillow keeps one byte. These names of a file's layout make it keep the other.
_ORDERS = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_OTHER_BYTE = {f"{mode};16{own}": f"{mode};16{other}" for mode in ("RGB", "RGBA") for own, other in _ORDERS.items()}
_lock = threading.Lock()


def read(source: str | os.PathLike | bytes, frame: int = 0) -> Contents:
    """Read a file.

    Raises:
        PIL.UnidentifiedImageError: Pillow does not know it.
        DataError: It has more pixels than allowed, several frames, or 16 bits of which Pillow keeps 8.
    """
    with opened(source) as image:
        if image.format == "TIFF":  # `tiffs` has looked at the frames
            image.seek(frame)
        else:
            _require_one_frame(image)
        _require_parts_inside(image, len(source) if isinstance(source, bytes) else os.stat(source).st_size)
        layouts = {part.args if isinstance(part.args, str) else str(part.args[0]) for part in image.tile if part.args}
        is_wide_ppm = image.format == "PPM" and image.tile[0].codec_name == "ppm" and image.tile[0].args[-1] > 255
        if (is_wide_ppm or any(";16" in layout for layout in layouts)) and image.mode not in _WIDE_MODES:
            if not layouts <= _OTHER_BYTE.keys() or image.format == "TIFF":
                raise DataError(
                    "has 16 bits, of which Pillow keeps 8 (grey with alpha, CMYK, PPM): save it as RGB in PNG"
                )
            return _read_wide_colour(source)
        contents = contents_of(image)
        start = _first_bytes(source) if image.format in ("WEBP", "JPEG2000") else b""
        if image.format == "WEBP":
            return replace(contents, is_lossy=b"VP8L" not in start[:64])
        if image.format == "JPEG2000" and (place := start.find(_JPEG_2000_START)) >= 0:
            bits, coding = (start[place + 42] & 0x7F) + 1, start.find(b"\xff\x52", place)
            if bits > 8 and image.mode not in _WIDE_MODES:
                raise DataError(f"is JPEG 2000 colour of {bits} bits, of which Pillow keeps 8; save it as a TIFF")
            return replace(contents, is_lossy=start[coding + 13] != 1)  # 1: the reversible transform
        return contents


def contents_of(image: Image.Image) -> Contents:
    """The pixels of an opened image, turned as its EXIF orientation says."""
    known = {"is_lossy": image.format in _LOSSY_FORMATS, "orientation": image.getexif().get(_ORIENTATION, 1)}
    image = ImageOps.exif_transpose(image)
    if image.mode in _WIDE_MODES:
        return Contents(np.array(image), **known)
    palette = np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3) if image.mode == "P" else None
    has_alpha = image.has_transparency_data
    if image.mode in ("1", "L", "P"):
        alpha = np.asarray(image.convert("RGBA"))[..., 3] if has_alpha else None
        return Contents(np.array(image), palette, alpha, **known)
    values = np.array(image if image.mode == "LA" else image.convert("RGBA" if has_alpha else "RGB"))
    return Contents(
        values, alpha=values[..., -1] if has_alpha else None, colours=1 if image.mode == "LA" else 3, **known
    )


def opened(source: str | os.PathLike | bytes, is_limited: bool = True) -> Image.Image:
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
    if is_limited:
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


def _first_bytes(source: str | os.PathLike | bytes, count: int = 65_536) -> bytes:
    if isinstance(source, bytes):
        return source[:count]
    with open(source, "rb") as file:
        return file.read(count)


def _read_wide_colour(source: str | os.PathLike | bytes) -> Contents:
    """uint16 colour, upright. Pillow gives one byte of each value, so it reads twice."""
    halves = []
    for swapped in (False, True):
        with opened(source) as image:
            if swapped:
                image.tile = [part._replace(args=_other_byte(part.args)) for part in image.tile]
            image.load()
            orientation = image.getexif().get(_ORIENTATION, 1)
            halves.append(np.asarray(ImageOps.exif_transpose(image), dtype=np.uint16))
    wide = halves[0] << 8 | halves[1]
    return Contents(wide, alpha=wide[..., 3] if wide.shape[2] == 4 else None, colours=3, orientation=orientation)


def _other_byte(layout: str | tuple) -> str | tuple:
    return _OTHER_BYTE[layout] if isinstance(layout, str) else (_OTHER_BYTE[layout[0]], *layout[1:])
