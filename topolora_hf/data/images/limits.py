"""How large an image or an unpacked archive may be. What a file's header claims is checked before it is decoded."""

import os

from ..errors import DataError

PIXELS_VARIABLE = "TOPOLORA_MAX_IMAGE_PIXELS"
UNPACKED_VARIABLE = "TOPOLORA_MAX_UNPACKED_GIB"
_DEFAULT_PIXELS = 200_000_000  # 14,142 pixels a side; 0.6 GB as 8-bit RGB


class TooLarge(DataError):
    """An image has more pixels than are held in memory. It may be read by rows."""

    __module__ = "topolora_hf"  # wherever the file lies


def max_image_pixels() -> int:
    """The most pixels that an image may have in memory: `$TOPOLORA_MAX_IMAGE_PIXELS`, by default 200 million."""
    return _positive_number(PIXELS_VARIABLE, _DEFAULT_PIXELS)


def max_unpacked_bytes() -> int | None:
    """The most bytes that an archive may unpack to (`$TOPOLORA_MAX_UNPACKED_GIB`); None if the variable is not set."""
    return _positive_number(UNPACKED_VARIABLE, 0) * 2**30 or None


def require_size(width: int, height: int) -> None:
    """Refuse an image of more pixels than allowed, or of none, before they are decoded."""
    if width < 1 or height < 1:
        raise DataError(f"has {width} x {height} pixels")
    if width * height > max_image_pixels():
        raise too_large(f"{width:,} x {height:,} pixels", TooLarge)


def too_large(size: str, kind: type[DataError] = DataError) -> DataError:
    """The error for an image of that size. It says how to raise the limit."""
    return kind(
        f"has {size}, more than the {max_image_pixels():,} pixels allowed; if that is meant and the memory suffices, "
        f"set the environment variable {PIXELS_VARIABLE}"
    )


def _positive_number(variable: str, default: int) -> int:
    """The number that an environment variable holds. What else it holds is an error."""
    text = os.environ.get(variable, "").strip()
    digits = text.replace("_", "").replace(",", "")
    if text and not (digits.isascii() and digits.isdigit() and len(digits) <= 18 and int(digits) > 0):
        raise DataError(f"the environment variable {variable} must be a positive whole number, got {text!r}")
    return int(digits) if text else default
