"""Which files are images, and what the results of each are called and how they are written."""

import re
from collections import Counter
from collections.abc import Sequence
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.errors import DataError
from ..data.images.names import IMAGE_SUFFIXES, is_image_file, without_suffix
from ..files import whole_file

if TYPE_CHECKING:
    from PIL import Image

_INSIDE_PIXELS = "inside_pixels"
BY_ROWS = {"TOPOLORA_MADE": "by rows"}
"""A tag of masks of images that were too large for memory: they have no PNG beside them."""


def find_images(patterns: Sequence[str | Path]) -> list[Path]:
    """Find images in files, folders (not their sub-folders) and glob patterns, each once, in order.

    Raises:
        DataError: A path does not exist, or names no image.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern)
        candidates = path.iterdir() if path.is_dir() else _glob(path)
        files = [path] if path.is_file() else sorted(filter(_looks_like_an_image, candidates))
        if not files:
            raise DataError(
                f"no images at {pattern}: expected a file, a folder or a glob of {', '.join(sorted(IMAGE_SUFFIXES))}"
            )
        found.update(dict.fromkeys(files))
    return list(found)


def _glob(pattern: Path) -> list[Path]:
    """Files by a pattern. `**` stands for folders of any depth, but follows no link: it may lead round in circles."""
    parts = pattern.parts
    first = next((number for number, part in enumerate(parts) if has_magic(part)), len(parts))
    if first == len(parts):
        return []
    rest = parts[first:] if parts[-1] != "**" else (*parts[first:], "*")
    root = Path(*parts[:first])
    found = root.glob(str(Path(*rest)))
    return [file for file in found if not any(part.startswith(".") for part in file.relative_to(root).parts)]


def _looks_like_an_image(file: Path) -> bool:
    return is_image_file(file) and not file.name.startswith(".") and file.is_file()


def output_names(files: Sequence[Path]) -> list[str]:
    """Name the results of each image: by its stem, or by its full name if two stems are equal.

    Raises:
        DataError: Two full names are equal: a result would overwrite the other.
    """
    stem_of = {file: without_suffix(file).name for file in files}
    stems = Counter(stem_of.values())
    names = [stem if stems[stem] == 1 else file.name for file, stem in stem_of.items()]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"several images of the same name would overwrite each other's masks: {', '.join(twice)}")
    return names


def file_a_class(path: str | Path, labels: Sequence[str]) -> list[Path]:
    """Name a file of each class: `NAME_artery.png` for `NAME.png`."""
    path, names = Path(path), [re.sub(r"[^\w.()-]+", "_", label) for label in labels]
    if len(set(map(str.casefold, names))) < len(names):
        names = [f"{number}_{name}" for number, name in enumerate(names, start=1)]
    return [path.with_name(f"{path.stem}_{name[:60]}{path.suffix}") for name in names]


def rows_folder(mask: Path) -> Path:
    """Where the finished rows of a mask lie that is made by rows."""
    return mask.with_name(f".{mask.name}.rows")


def is_by_rows(mask: Path) -> bool:
    """Whether a GeoTIFF is the whole result of an image that was too large for memory."""
    from ..data.place import opened_raster

    with opened_raster(mask) as dataset:
        return BY_ROWS.items() <= dataset.tags().items()


def require_png(path: str | Path) -> None:
    """Refuse another ending than that of what is written; ValueError."""
    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"{path}: a PNG is written, so the name must end in .png")


def save_png(picture: "Image.Image", path: str | Path, inside: int | None = None) -> None:
    """Write a PNG as `whole_file` does; of a mask with, as text, how many pixels may be structure."""
    from PIL.PngImagePlugin import PngInfo

    require_png(path)
    notes = PngInfo()
    if inside is not None:
        notes.add_text(_INSIDE_PIXELS, str(inside))
    with whole_file(path) as temporary:
        picture.save(temporary, format="PNG", pnginfo=notes)


def inside_pixels(path: str | Path) -> int | None:
    """How many pixels of a mask may be structure, if it is a PNG of ours that says so."""
    from PIL import Image

    with Image.open(path) as picture:
        text = str(picture.info.get(_INSIDE_PIXELS, ""))
    return int(text) if text.isdigit() else None
