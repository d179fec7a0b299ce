"""Which files are images, by name."""

import os
from pathlib import Path

IMAGE_SUFFIXES = frozenset(
    ".png .apng .jpg .jpeg .jpe .jfif .tif .tiff .gif .bmp .dib .ppm .pgm .pbm .pnm .pfm .webp .avif .avifs .jp2 .j2k "
    ".jpc .jpf .jpx .j2c .npy".split()
)
"""Each may also be compressed, as in `im0001.ppm.gz`."""


def is_image_file(path: str | Path) -> bool:
    """Tell whether the name is an image's, compressed or not.

    >>> is_image_file(Path("im0001.ppm.gz")), is_image_file(Path("notes.txt.gz"))
    (True, False)
    """
    stem, suffix = os.path.splitext(path)
    return (os.path.splitext(stem)[1] if suffix.lower() == ".gz" else suffix).lower() in IMAGE_SUFFIXES


def bare_name(text: str) -> str:
    """Strip the image suffix, and `.gz` before it.

    >>> bare_name("labels/im0001.ah.ppm.gz")
    'labels/im0001.ah'
    """
    stem, suffix = os.path.splitext(text)
    return os.path.splitext(stem)[0] if suffix.lower() == ".gz" else stem


def without_suffix(path: Path) -> Path:
    """The same of a path."""
    return Path(bare_name(str(path)))


def name_in(path: Path, folder: Path) -> str:
    """The path in a folder that it lies in, with slashes."""
    return path.relative_to(folder).as_posix()
