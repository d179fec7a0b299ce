"""How large an image or an unpacked archive may be: what a file's header claims is not to be trusted."""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from .errors import DataError

PIXELS_VARIABLE = "TOPOLORA_MAX_IMAGE_PIXELS"
UNPACKED_VARIABLE = "TOPOLORA_MAX_UNPACKED_GIB"
_DEFAULT_PIXELS = 200_000_000  # 14,142 pixels a side; 0.6 GB as 8-bit RGB
_BYTES_A_PIXEL = 4  # of a compressed image file once it is unpacked


def max_image_pixels() -> int:
    """The most pixels that an image may have: `$TOPOLORA_MAX_IMAGE_PIXELS`, by default 200 million.

    Raises:
        DataError: The variable does not hold a positive whole number.
    """
    return _positive_number(PIXELS_VARIABLE, _DEFAULT_PIXELS)


def max_file_bytes() -> int:
    """The most bytes that one image file (`.ppm.gz`) may unpack to; it goes with the limit on pixels."""
    return _BYTES_A_PIXEL * max_image_pixels()


def max_unpacked_bytes() -> int | None:
    """What the user lets any archive unpack to (`$TOPOLORA_MAX_UNPACKED_GIB`); None where nothing is said.

    Raises:
        DataError: The variable does not hold a positive whole number.
    """
    return _positive_number(UNPACKED_VARIABLE, 0) * 2**30 or None


def require_size(width: int, height: int) -> None:
    """Refuses an image before its pixels are decoded.

    Raises:
        DataError: It has more pixels than allowed, or none.
    """
    limit = max_image_pixels()
    if width < 1 or height < 1:
        raise DataError(f"has {width} x {height} pixels")
    if width * height > limit:
        raise too_large(f"{width:,} x {height:,} pixels", limit)


def too_large(size: str, limit: int) -> DataError:
    """The error for an image of that size, with what raises the limit."""
    return DataError(
        f"has {size}, more than the {limit:,} pixels allowed; if that is meant and the memory suffices, set the "
        f"environment variable {PIXELS_VARIABLE}"
    )


_lock = threading.Lock()
_readers = 0
_pillows_own: int | None = None


@contextmanager
def pillow_within_limit() -> Iterator[None]:
    """Pillow refuses what is over this package's limit and not over its own, while anybody here reads an image.

    Its limit is one number for the whole process: the first reader among several threads replaces it, the last one
    puts it back.
    """
    global _readers, _pillows_own
    limit = max_image_pixels()
    with _lock:
        if not _readers:
            _pillows_own = Image.MAX_IMAGE_PIXELS
        _readers += 1
        # Pillow warns above this and refuses above its double; `require_size` is exact, once the header is read.
        Image.MAX_IMAGE_PIXELS = limit
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        pixels = re.search(r"\d+", str(error))  # its message has nothing but the number of pixels and Pillow's limit
        raise too_large(f"{int(pixels[0]):,} pixels" if pixels else "too many pixels", limit) from error
    finally:
        with _lock:
            _readers -= 1
            if not _readers:
                Image.MAX_IMAGE_PIXELS = _pillows_own


def _positive_number(variable: str, default: int) -> int:
    text = os.environ.get(variable, "").strip()
    if not text:
        return default
    digits = text.replace("_", "").replace(",", "")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18 and int(digits) > 0):
        raise DataError(f"the environment variable {variable} must be a positive whole number, got {text!r}")
    return int(digits)
