"""Image files through Pillow: every format but TIFF and .npy, and those kinds of TIFF that are no plain numbers."""

import io
import os
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
_WIDE_COLOUR = ("RGB;16B", "RGBA;16B")  # of PNG
_ORIENTATION = 0x0112
_lock = threading.Lock()


def read(source: str | os.PathLike | bytes, frame: int = 0) -> Contents:
    """Read a file; several frames, more pixels than allowed, and 16 bits of which Pillow keeps 8 are errors."""
    with opened(source) as image:
        if image.format == "TIFF":  # `tiffs` has looked at the frames
            image.seek(frame)
        else:
            _require_one_frame(image)
        file_bytes = len(source) if isinstance(source, bytes) else os.stat(source).st_size
        outside = [part.offset for part in image.tile if part.offset > file_bytes]
        if outside:  # Pillow would make room for all bytes up to there
            raise DataError(f"claims to hold pixels from byte {outside[0]:,} on, but has {file_bytes:,} bytes")
        layouts = [part.args if isinstance(part.args, str) else str(part.args[0]) for part in image.tile if part.args]
        is_wide_ppm = image.format == "PPM" and image.tile[0].codec_name == "ppm" and image.tile[0].args[-1] > 255
        if (is_wide_ppm or any(";16" in layout for layout in layouts)) and image.mode not in _WIDE_MODES:
            if image.format == "PNG" and layouts[0] in _WIDE_COLOUR:
                return _read_wide_colour(source)
            raise DataError("has 16 bits, of which Pillow keeps 8 (grey with alpha, CMYK, PPM): save it as RGB in PNG")
        contents = contents_of(image)
        if image.format == "WEBP":
            return replace(contents, is_lossy=b"VP8L" not in first_bytes(source, 64))
        if image.format == "JPEG2000":
            return _of_jpeg_2000(contents, first_bytes(source, 65_536))
        return contents


def contents_of(image: Image.Image) -> Contents:
    """The pixels of an opened image, turned as its EXIF orientation says."""
    known = {"is_lossy": image.format in _LOSSY_FORMATS, "orientation": image.getexif().get(_ORIENTATION, 1)}
    image = ImageOps.exif_transpose(image)
    if image.mode in _WIDE_MODES:
        return Contents(np.array(image), **known)
    has_alpha = image.has_transparency_data
    if image.mode in ("1", "L", "P"):
        palette = np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3) if image.mode == "P" else None
        alpha = np.asarray(image.convert("RGBA"))[..., 3] if has_alpha else None
        return Contents(np.array(image), palette, alpha, **known)
    values = np.array(image if image.mode == "LA" else image.convert("RGBA" if has_alpha else "RGB"))
    alpha = values[..., -1] if has_alpha else None
    return Contents(values, alpha=alpha, colours=1 if image.mode == "LA" else 3, **known)


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


def first_bytes(source: str | os.PathLike | bytes, count: int) -> bytes:
    """The start of a file."""
    if isinstance(source, bytes):
        return source[:count]
    with open(source, "rb") as file:
        return file.read(count)


def _require_one_frame(image: Image.Image) -> None:
    """Refuse a stack or an animation. The smaller previews that some files carry are allowed."""
    frames, size = getattr(image, "n_frames", 1), image.size
    if frames > 1 and image.format != "MPO":
        image.seek(1)
        if image.size == size:
            raise DataError(f"holds {frames} images of the same size (a stack or an animation): one image a file")
        image.seek(0)


def _of_jpeg_2000(contents: Contents, start: bytes) -> Contents:
    """Complete it by what the file's first markers say: bits of a value, and whether coding is reversible."""
    place = start.find(b"\xff\x4f\xff\x51")
    if place < 0:
        return contents
    bits, coding = (start[place + 42] & 0x7F) + 1, start.find(b"\xff\x52", place)
    if bits > 8 and contents.values.dtype == np.uint8:
        raise DataError(f"is JPEG 2000 colour of {bits} bits, of which Pillow keeps 8; save it as a TIFF")
    return replace(contents, is_lossy=start[coding + 13] != 1)


def _read_wide_colour(source: str | os.PathLike | bytes) -> Contents:
    """uint16 colour of a PNG, upright. Pillow gives one byte of each value, so it reads twice."""
    halves = []
    for order in ("B", "L"):
        with opened(source) as image:
            image.tile = [part._replace(args=f"{image.mode};16{order}") for part in image.tile]
            halves.append(np.asarray(ImageOps.exif_transpose(image), dtype=np.uint16))
            orientation = image.getexif().get(_ORIENTATION, 1)
    wide = halves[0] << 8 | halves[1]
    return Contents(wide, alpha=wide[..., 3] if wide.shape[2] == 4 else None, colours=3, orientation=orientation)
