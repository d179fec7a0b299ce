"""Which files are images, by name."""

import os
from pathlib import Path

_SUFFIXES = """
.png .apng .jpg .jpeg .jpe .jfif .tif .tiff .gif .bmp .dib .ppm .pgm .pbm .pnm .pfm .webp .avif .avifs
.jp2 .j2k .jpc .jpf .jpx .j2c .npy
"""
IMAGE_SUFFIXES = frozenset(_SUFFIXES.split())
"""Each may also be compressed, as in `im0001.ppm.gz`."""


def is_image_file(path: str | Path) -> bool:
    """Tell whether the name is an image's, compressed or not.

    >>> is_image_file(Path("im0001.ppm.gz")), is_image_file(Path("notes.txt.gz"))
    (True, False)
    """
    stem, suffix = os.path.splitext(path)
    return (os.path.splitext(stem)[1] if suffix.lower() == ".gz" else suffix).lower() in IMAGE_SUFFIXES


def without_suffix(path: Path) -> Path:
    """Strip the image suffix, and `.gz` before it.

    >>> without_suffix(Path("labels/im0001.ah.ppm.gz")).as_posix()
    'labels/im0001.ah'
    """
    return Path(bare_name(str(path)))


def bare_name(text: str) -> str:
    """The same of text."""
    stem, suffix = os.path.splitext(text)
    return os.path.splitext(stem)[0] if suffix.lower() == ".gz" else stem


def name_in(path: Path, folder: Path) -> str:
    """The path in a folder that it lies in, with slashes."""
    text, root = str(path), str(folder)
    inner = text[len(root) + 1 :] if text.startswith(root + os.sep) else str(path.relative_to(folder))
    return inner.replace(os.sep, "/")
