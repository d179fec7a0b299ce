"""What a reader returns: which files make one row, before anything is decoded."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .decode import IMAGE_SUFFIXES


@dataclass(frozen=True)
class Record:
    """The files of one row.

    Attributes:
        id: Unique within the data set.
        image: The picture.
        mask: The target; None where there is no such file, which `checks` reports.
        valid_mask: The field of view; None where the whole image is valid.
    """

    id: str
    image: Path
    mask: Path | None
    valid_mask: Path | None = None


Splits = dict[str, list[Record]]

UNSPLIT = "all"
"""The split name under which a reader returns rows that its layout does not divide."""


def list_images(folder: Path) -> list[Path]:
    """All image files under `folder`, sorted; hidden files and archive debris (`._x.png`, `__MACOSX`) left out."""
    found = []
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if path.suffix.lower() in IMAGE_SUFFIXES and not any(part.startswith((".", "__MACOSX")) for part in parts):
            if path.is_file():
                found.append(path)
    return sorted(found)


def name_rows(images: Sequence[Path], folder: Path) -> list[str]:
    """One id a file: its stem, or the path relative to `folder` where stems clash.

    >>> name_rows([Path("f/a/1.png"), Path("f/b/1.png"), Path("f/2.png")], Path("f"))
    ['a/1', 'b/1', '2']
    """
    relative = [path.relative_to(folder) for path in images]
    stems = Counter(path.stem for path in relative)
    bare = Counter(path.with_suffix("").as_posix() for path in relative)
    ids = []
    for path in relative:
        without_suffix = path.with_suffix("").as_posix()
        if stems[path.stem] == 1:
            ids.append(path.stem)
        else:
            ids.append(without_suffix if bare[without_suffix] == 1 else path.as_posix())
    return ids


def find_folder(parent: Path, *names: str) -> Path | None:
    """The sub-folder of `parent` that has one of `names`, in any letter case; None if there is none."""
    children = {child.name.lower(): child for child in sorted(parent.iterdir()) if child.is_dir()}
    return next((children[name] for name in names if name in children), None)


def describe_contents(folder: Path, limit: int = 8) -> str:
    """Names what lies directly in `folder`, for errors about a wrong layout."""
    names = sorted(child.name + "/" * child.is_dir() for child in folder.iterdir() if not child.name.startswith("."))
    if not names:
        return "nothing (the folder is empty)"
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
