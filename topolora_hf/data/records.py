"""What a reader is asked, and what it returns: which files make one row, before anything is decoded."""

import functools
import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .classes import Classes
from .errors import DataError
from .images.names import bare_name, is_image_file, name_in, without_suffix

FIELDS_OF_VIEW = ("auto", "given", "none")
ESTIMATED = "estimated"
"""Stands in place of a file for a field of view that is estimated from its image."""
EMPTY = "empty"
"""Stands in place of a file for the mask of an image in which there is nothing to find."""
ROWS_FILE = ".rows.json"
"""In a folder that was exported from a data set with columns: which row and column each file was."""


Masks = Path | tuple[Path, ...] | str | None
"""The file of a mask, several to unite, `EMPTY`, or None where there is none: a problem."""


@dataclass(frozen=True)
class Record:
    """The files of one row. The id is unique within its split."""

    id: str
    image: Path
    mask: Masks  # of all classes
    valid_mask: Path | str | None = None  # `ESTIMATED` where it is found from the image; None where all is valid
    class_masks: tuple[Masks, ...] = ()  # of each class, where each has its own; and perhaps one of what is ignored

    @property
    def groups(self) -> tuple[tuple[Path, ...], ...]:
        """The files of its mask, or of each class; empty for an empty mask."""
        return tuple(
            each if isinstance(each, tuple) else (each,) if isinstance(each, Path) else ()
            for each in self.class_masks or (self.mask,)
        )

    @property
    def masks(self) -> tuple[Path, ...]:
        """All files of its masks."""
        return tuple(path for group in self.groups for path in group)

    @property
    def is_negative(self) -> bool:
        """Whether all its masks are empty by decision."""
        return all(each == EMPTY for each in self.class_masks or (self.mask,))


Splits = dict[str, list[Record]]

UNSPLIT = "all"
"""The split name under which a reader returns rows that its layout does not divide."""

SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val"),
    "test": ("test", "testing"),
}
"""What folders and published splits are called, in lower case."""

SPLIT_OF_NAME = {name: split for split, names in SPLIT_NAMES.items() for name in names}


_WIDTH = re.compile(r"(\d+\.?\d*) ?(m|px)")


@dataclass(kw_only=True)
class Layout:
    """Where images, masks and fields of view are, if not under the usual names.

    `image_dir` and its like are folders in the data set's folder or in each split's ("." for that folder itself);
    `image_pattern` is the name of a file, such as "{stem}_sat.jpg", in which * stands for anything; `image_column` is a
    column of a table of files or of a data set with named columns. `mask_dir` may also be a file of lines or polygons
    of a GIS; `mask_layer` is a layer of it, and `line_width` says how wide lines are, as "6m" (metres) or "3px".

    Raises:
        DataError: A pattern does not contain `{stem}` once, or a width has no unit.
    """

    image_dir: str | None = None
    mask_dir: str | None = None
    valid_mask_dir: str | None = None
    image_pattern: str | None = None
    mask_pattern: str | None = None
    valid_mask_pattern: str | None = None
    image_column: str | None = None
    mask_column: str | None = None
    valid_mask_column: str | None = None
    mask_layer: str | None = None
    line_width: str | None = None

    def __post_init__(self):
        if self.line_width is not None and not (_WIDTH.fullmatch(self.line_width) and self.width_and_unit[0] > 0):
            units = "6m (metres on the ground) or 3px (pixels of an image)"
            raise DataError(f"line_width must be a width with its unit, as {units}; got {self.line_width!r}")
        for name in ("image_pattern", "mask_pattern", "valid_mask_pattern"):
            pattern = getattr(self, name)
            if pattern is not None and pattern.count("{stem}") != 1:
                raise DataError(f'{name} must contain {{stem}} once, as in "{{stem}}_mask.png"; got {pattern!r}')

    @property
    def width_and_unit(self) -> tuple[float, str]:
        """What `line_width` says: a number, and m or px."""
        number, unit = _WIDTH.fullmatch(self.line_width).groups()
        return float(number), unit

    def require_used(self, what: str, *kinds: str) -> None:
        """Refuse options that the reader of `what` would ignore: it looks at `kinds` ("dir", "pattern", "column")."""
        unused = [f"{name} {value!r}" for name, value in vars(self).items() if value and not name.endswith(kinds)]
        if unused:
            raise DataError(f"{what} has no use for {', '.join(unused)}")


@dataclass(frozen=True)
class ReadOptions:
    """What a reader needs to know besides the folder."""

    counts: Mapping[str, int] = field(default_factory=dict)  # rows a split in the complete set; `UNSPLIT` before that
    lists: Mapping[str, Sequence[str]] = field(default_factory=dict)  # the ids of each split, if lists divide the set
    annotator: int = 1  # whose masks: the first's or the second's
    skip_bad: bool = False  # take the complete rows of an incomplete archive
    layout: Layout = field(default_factory=Layout)  # what the user said of a folder
    classes: Classes | None = None  # and of classes


def printable(text: str) -> str:
    r"""The text with what is no Unicode, as in file names of other encodings, written as escapes.

    >>> printable("\udcff.png")
    '\\xff.png'
    """
    has_surrogates = any("\ud800" <= character <= "\udfff" for character in text)
    return os.fsencode(text).decode("utf-8", "backslashreplace") if has_surrogates else text


def row_name(path: Path, folder: Path) -> str:
    """The path in `folder`, if it lies there, and the row and column that it was, if it was exported from one."""
    if not str(path).startswith(str(folder).rstrip(os.sep) + os.sep):
        return str(path)
    name = name_in(path, folder)
    row = _exported_rows(folder).get(name)
    return f"{name} ({row})" if row else name


@functools.lru_cache(maxsize=8)
def _exported_rows(folder: Path) -> Mapping[str, str]:
    file = folder / ROWS_FILE
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def list_images(folder: Path) -> list[Path]:
    """All image files under `folder`, sorted; hidden files and archive debris (`._x.png`, `__MACOSX`) left out.

    Links to folders are followed, but for those that lead round in circles.
    """
    found, seen = [], set()
    above = {os.path.realpath(folder), *map(str, Path(os.path.realpath(folder)).parents)}

    def walk(place: str, parts: tuple[str, ...]) -> None:
        real = os.path.realpath(place)
        if real in seen or (parts and real in above):
            return
        seen.add(real)
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.name.startswith((".", "__MACOSX")):
                    continue
                looked_at = Path(entry.path) if entry.is_symlink() else entry  # a path to itself is neither
                if is_image_file(entry.name) and looked_at.is_file():
                    found.append((*parts, entry.name))
                elif looked_at.is_dir():
                    walk(entry.path, (*parts, entry.name))

    walk(str(folder), ())
    return [folder.joinpath(*parts) for parts in sorted(found)]


def name_rows(images: Sequence[Path], folder: Path) -> list[str]:
    """One id a file: its stem, or the path relative to `folder` where stems clash.

    >>> name_rows([Path("f/a/1.png"), Path("f/b/1.png"), Path("f/2.png")], Path("f"))
    ['a/1', 'b/1', '2']
    """
    relative = [name_in(path, folder) for path in images]
    bare = [bare_name(path) for path in relative]
    short = [path.rpartition("/")[2] for path in bare]
    stems, paths = Counter(short), Counter(bare)
    return [
        stem if stems[stem] == 1 else (inner if paths[inner] == 1 else path)
        for stem, inner, path in zip(short, bare, relative, strict=True)
    ]


def read_names(path: Path) -> list[str]:
    """The file names of a list, one a line, without suffixes; DataError if it is not text, or is empty."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text file with one name a line: {error}") from error
    names = [without_suffix(Path(line.strip())).name for line in lines if line.strip()]
    if not names:
        raise DataError(f"{path} names no image")
    return names


def wrong_layout(problem: str, folder: Path, layout: str = "") -> DataError:
    """The error for a folder with another layout: what was expected, and what was found."""
    expected = f"Expected:\n{layout}\n" if layout else ""
    names = sorted(child.name + "/" * child.is_dir() for child in folder.iterdir() if not child.name.startswith("."))
    return DataError(f"{problem}. {expected}Found: {some(names, 8) or 'nothing (the folder is empty)'}")


def incomplete(data_dir: Path, problems: Sequence[str], layout: str) -> DataError:
    """The error for an archive with files missing."""
    return DataError(
        f"{data_dir} is incomplete:\n  " + "\n  ".join(problems) + f"\nExpected:\n{layout}\n"
        "skip_bad (--skip_bad) takes the complete rows that are there."
    )


def some(names: Sequence[str], most: int = 3) -> str:
    """The first names, and how many more there are.

    >>> some(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
