"""A table of files: CSV or JSONL with one row an image."""

import csv
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..classes import Classes
from ..errors import DataError
from ..images.names import without_suffix
from ..records import SPLIT_OF_NAME, UNSPLIT, ReadOptions, Record, Splits

FOLDER_TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl")
TABLE_SUFFIXES = (*FOLDER_TABLE_SUFFIXES, ".txt")

IMAGE_COLUMNS = ("image", "image_path", "img", "images", "file_name", "filename", "input", "pixel_values")
MASK_COLUMNS = ("mask", "mask_path", "masks", "label", "labels", "annotation", "gt", "ground_truth", "segmentation")
MASK_COLUMNS += ("segmentation_mask", "target", "seg_map", "mask_file_name")
VIEW_COLUMNS = ("valid_mask", "field_of_view", "fov", "roi")

_SPLITS = {**SPLIT_OF_NAME, "dev": "validation"}


def read_table(path: Path, options: ReadOptions) -> tuple[Splits, list[str]]:
    """Read pairs of files from a table. Paths in it are relative to the table's folder.

    It is a .csv, .tsv or .txt (comma, semicolon or tab) or .jsonl file in UTF-8, UTF-16 or Windows-1252, with a column
    for the images and one for the masks, and optionally `valid_mask`, `split` (train, validation, test) and `id`.
    """
    text, sentences = _read_text(path)
    rows = _parse_jsonl(path, text) if path.suffix.lower() == ".jsonl" else _parse_csv(path, text)
    if not rows:
        raise DataError(f"{path} has no rows")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    layout = options.layout
    image = find_column(columns, layout.image_column, IMAGE_COLUMNS, f"{path}: image_column")
    of_classes = class_columns(columns, options.classes, layout.mask_column, str(path))
    masks = of_classes or [find_column(columns, layout.mask_column, MASK_COLUMNS, f"{path}: mask_column")]
    view = layout.valid_mask_column
    if view is not None or set(VIEW_COLUMNS) & set(columns):
        view = find_column(columns, view, VIEW_COLUMNS, f"{path}: valid_mask_column")
    files = [[_file(path, row.get(column)) if column else None for column in (image, view, *masks)] for row in rows]
    if None in (without := [picture for picture, *_ in files]):
        raise DataError(f"{path}: row {without.index(None) + 1} has no {image}")
    splits: Splits = {}
    by_name = {column.lower(): column for column in columns}
    ids = _ids(path, [row.get(by_name.get("id")) for row in rows], [picture for picture, *_ in files])
    for number, (row, row_id, of_row) in enumerate(zip(rows, ids, files, strict=True), start=1):
        split = str(row.get(by_name.get("split")) or "").strip().lower()
        if split and split not in _SPLITS:
            raise DataError(f"{path}: row {number} has split {split!r}; allowed: train, validation, test")
        picture, seen, *drawn = of_row
        one, of_class = (None, tuple(drawn)) if of_classes else (drawn[0], ())
        record = Record(row_id, picture, one, seen, of_class)
        splits.setdefault(_SPLITS[split] if split else UNSPLIT, []).append(record)
    if UNSPLIT in splits and len(splits) > 1:
        raise DataError(f"{path}: {len(splits[UNSPLIT])} rows have no split, the others do; give all or none one")
    return splits, sentences


def find_column(columns: Sequence[str], given: str | None, usual: Sequence[str], option: str) -> str:
    """The column that the user named, or the first of the usual names; DataError if there is none."""
    by_name = {column.lower(): column for column in columns}
    if given is not None:
        if given not in columns:
            raise DataError(f"{option}: no column {given!r}; there are {', '.join(columns)}")
        return given
    found = next((by_name[name] for name in usual if name in by_name), None)
    if found is None:
        raise DataError(f"{option}: none of the usual names ({', '.join(usual)}); there are {', '.join(columns)}")
    return found


def class_columns(columns: Sequence[str], classes: Classes | None, mask: str | None, where: str) -> list[str]:
    """The columns of the classes, of masks of their own; none if one column has the masks of all.

    Raises:
        DataError: A class has no column while its values are none of a mask, or a column of masks is named besides.
    """
    if classes is None or classes.by_value:
        return []
    wanted = [each.labels[0] for each in classes.classes]
    if classes.is_one_name and wanted[0] not in columns:
        return []
    if any(each.place or len(each.values) > 1 for each in classes.classes) or set(wanted) - set(columns):
        named = "; ".join(f"{each.name}: {each.place or ', '.join(each.labels)}" for each in classes.classes)
        there = f"there are {', '.join(columns)}"
        raise DataError(f"{where}: --classes must name values, or one column a class ({named}); {there}")
    if mask is not None:
        both = f"mask_column {mask!r} and a column a class ({', '.join(wanted)})"
        raise DataError(f"{where}: {both}: leave one of them out")
    return wanted


def _read_text(path: Path) -> tuple[str, list[str]]:
    """What the table says, and a sentence if its encoding had to be guessed."""
    content = path.read_bytes()
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text, sentences = content.decode(encoding), []
    except UnicodeDecodeError as error:
        if encoding == "utf-16" or b"\0" in content:
            raise DataError(f"{path} is not text: {error}") from error
        text = content.decode("cp1252", errors="replace")
        sentences = [f"{path.name} is not UTF-8; it is read as Windows-1252, as Excel writes it"]
    return text.replace("\r\n", "\n").replace("\r", "\n"), sentences


def _parse_csv(path: Path, text: str) -> list[Mapping[str, str]]:
    lines = [line for line in text.split("\n") if line.strip()]
    said = lines.pop(0)[4:].strip('"\n ') if lines and lines[0].lstrip('"').lower().startswith("sep=") else ""
    header = lines[0] if lines else ""
    try:
        rows = list(csv.DictReader(lines, delimiter=said or max(",;\t", key=header.count), skipinitialspace=True))
    except (csv.Error, TypeError) as error:  # a quote that is never closed makes one field of all that follows
        raise DataError(f"{path} is not a table of separated values: {error}") from error
    uneven = [number for number, row in enumerate(rows, start=1) if None in row or None in row.values()]
    if uneven:
        raise DataError(f"{path}: row {uneven[0]} has another number of fields than the header ({header})")
    return [{name.strip(): value.strip() for name, value in row.items()} for row in rows]


def _parse_jsonl(path: Path, text: str) -> list[Mapping[str, str]]:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}: line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise DataError(f'{path}: line {number} must be an object such as {{"image": ..., "mask": ...}}')
        rows.append(row)
    return rows


def _file(table: Path, value: str | None) -> Path | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise DataError(f"{table}: a file's name is needed, got {value!r}")
    path = table.parent / value.strip()
    return path if "\\" not in value or path.exists() else table.parent / value.strip().replace("\\", "/")


def _ids(path: Path, given: Sequence[str | None], images: Sequence[Path]) -> list[str]:
    """The ids given, or the images' stems, or their whole names where stems clash."""
    ids = [str(row_id) for row_id in given]
    if any(row_id in (None, "") for row_id in given):
        stems = [without_suffix(image).name for image in images]
        counts = Counter(stems)
        names = [Path(os.path.relpath(image, path.parent)).as_posix() for image in images]
        ids = [stem if counts[stem] == 1 else name for stem, name in zip(stems, names, strict=True)]
    if twice := [row_id for row_id, count in Counter(ids).items() if count > 1]:
        raise DataError(f"{path}: several rows have the same id or image: {', '.join(twice)}")
    return ids
