"""Data sets with named columns, from the Hub or saved by `datasets`: their rows as files for the folder reader.

Two schemas are known: paired rows, with a column of images and one of masks (Image, Array2D or Array3D), as in
`Angelou0516/kvasir-seg`; and separate rows of one file stem, with a ClassLabel of the classes `input` and `label` that
says which are images and which are masks, as in `Zomba/*`.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, load_dataset, load_from_disk
from huggingface_hub.constants import HF_HOME, HF_HUB_CACHE

from ..archives import cached_folder
from ..classes import Classes
from ..errors import DataError
from ..images.names import IMAGE_SUFFIXES, without_suffix
from ..records import ROWS_FILE, SPLIT_OF_NAME, Layout
from .table import IMAGE_COLUMNS, MASK_COLUMNS, VIEW_COLUMNS, class_columns, find_column

_LONGEST_STEM = 240  # bytes of UTF-8; with its suffix a name may have 255
_FOLDER_OF = {"image": "images", "input": "images", "mask": "masks", "label": "masks", "view": "valid_masks"}
Cell = dict | np.ndarray | None


def export_dataset(source: str | Path, layout: Layout, classes: Classes | None = None) -> Path:
    """Write the images and masks of a Hub data set, or of a folder of `save_to_disk` or Parquet files, as files, once.

    Returns:
        A folder with `images/` and `masks/`, inside `train/`, `validation/` and `test/` as the data set is divided. If
        each class has a column, `masks/` has a folder a class.

    Raises:
        DataError: The data set cannot be loaded, has no such columns, or has no masks.
    """
    is_saved = any((Path(source) / name).is_file() for name in ("dataset_dict.json", "state.json"))
    try:
        splits = load_from_disk(str(source)) if is_saved else load_dataset(str(source))
    except Exception as error:  # of the network, the Hub, pyarrow, ... : one message that says which data set
        reason = str(error).strip() or type(error).__name__
        raise DataError(f"data set {source} cannot be loaded ({type(error).__name__}: {reason})") from error
    splits = DatasetDict({"train": splits}) if isinstance(splits, Dataset) else splits
    unknown = [name for name in splits if name.lower() not in SPLIT_OF_NAME]
    if unknown and len(splits) > 1:
        raise DataError(f"data set {source} has the split {unknown[0]!r}; allowed: train, validation, test")
    columns = next(iter(splits.values())).column_names
    of_classes = class_columns(columns, classes, layout.mask_column, f"data set {source}")
    column_of = dict(zip(classes.names, of_classes, strict=True)) if of_classes else {}
    key = (str(source), [rows._fingerprint for rows in splits.values()], layout, column_of)
    name = Path(source).name
    return cached_folder("exported", name, key, lambda folder: _export(source, splits, layout, column_of, folder))


def _export(
    source: str | Path, splits: DatasetDict, layout: Layout, column_of: dict[str, str], folder: Path
) -> None:  # fmt: skip
    row_names: dict[str, str] = {}
    for name, rows in splits.items():
        for column, feature in rows.features.items():
            if isinstance(feature, datasets.Image):
                rows = rows.cast_column(column, datasets.Image(decode=False))
        # A data set with one split is not divided, whatever that is called.
        split_folder = folder / SPLIT_OF_NAME[name.lower()] if len(splits) > 1 else folder
        for of_class in column_of:
            (split_folder / "masks" / of_class).mkdir(parents=True, exist_ok=True)
        for place, kind, cell, stem in _cells(source, rows, layout, column_of, name):
            if cell is not None:  # the checks say which row has no mask
                inner = split_folder / _FOLDER_OF.get(kind, f"masks/{kind}")
                path = _write(f"{source}: {place}", cell, inner, isinstance(source, str), stem)
                row_names[path.relative_to(folder).as_posix()] = place
        if not (split_folder / "masks").is_dir():
            shutil.rmtree(split_folder, ignore_errors=True)
    if not any(folder.rglob("masks/*")):
        raise DataError(f"data set {source} has no masks")
    (folder / ROWS_FILE).write_text(json.dumps(row_names), encoding="utf-8")


def _cells(
    source: str | Path, rows: Dataset, layout: Layout, classes: dict[str, str], name: str
) -> Iterator[tuple[str, str, Cell, str | None]]:
    """Where each cell of a split is, its kind, what it holds, and its file's stem if that is not its own."""
    features = rows.features
    kinds = (datasets.Image, datasets.Array2D, datasets.Array3D)
    columns = [column for column, feature in features.items() if isinstance(feature, kinds)]
    told_apart_by = next((column for column, feature in features.items() if _tells_apart(feature)), None)
    if told_apart_by is not None and layout.mask_column is None and not classes:
        image = find_column(columns, layout.image_column, IMAGE_COLUMNS, f"{source}: image")
        for number, row in enumerate(rows.select_columns([told_apart_by, image])):
            if row[told_apart_by] is None:
                raise DataError(f"data set {source}: {name} row {number} has no {told_apart_by}")
            kind = features[told_apart_by].int2str(row[told_apart_by])
            yield f"{name} row {number}, column {image}", kind, row[image], None
        return
    column_of = _column_of_kind(source, columns, features, layout, classes)
    rows = rows.select_columns(list(column_of.values()))
    paths = [cell.get("path") if isinstance(cell, dict) else None for cell in rows[column_of["image"]]]
    stems = [without_suffix(Path(path)).name if path else "" for path in paths]
    if not all(map(_is_plain, stems)) or len(set(stems)) < len(stems):
        stems = [f"{number:06d}" for number in range(len(stems))]
    for number, (row, stem) in enumerate(zip(rows, stems, strict=True)):
        for kind, column in column_of.items():
            cell = row[column]
            if isinstance(cell, list):
                cell = np.asarray(cell, features[column].dtype)
            yield f"{name} row {number}, column {column}", kind, cell, stem


def _tells_apart(feature: object) -> bool:
    """Whether it tells images from masks, where they are separate rows."""
    return isinstance(feature, ClassLabel) and {"input", "label"} == set(feature.names)


def _column_of_kind(
    source: str | Path, columns: list[str], features: Features, layout: Layout, classes: dict[str, str]
) -> dict[str, str]:
    """Which column holds the image, the mask or that of each class, and the field of view."""
    if len(columns) < 2:
        types = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items())
        raise DataError(
            f"data set {source} needs a column of images and one of masks, of type Image or Array; there are {types}"
        )
    image = find_column(columns, layout.image_column, IMAGE_COLUMNS, f"{source}: image_column")
    others = [column for column in columns if column != image]
    if wrong := [column for column in classes.values() if column not in others]:
        raise DataError(f"data set {source}: column {wrong[0]!r} of a class holds no masks (of type Image or Array)")
    masks = classes or {"mask": others[0]}
    if not classes and (layout.mask_column is not None or len(others) > 1):
        masks = {"mask": find_column(others, layout.mask_column, MASK_COLUMNS, f"{source}: mask_column")}
    found = {"image": image, **masks}
    rest = [column for column in others if column not in found.values()]
    if layout.valid_mask_column is not None or set(VIEW_COLUMNS) & set(rest):
        found["view"] = find_column(rest, layout.valid_mask_column, VIEW_COLUMNS, f"{source}: valid_mask_column")
    return found


def _is_plain(stem: str) -> bool:
    """Files whose names begin with a dot are not looked at, and long names cannot be written."""
    return bool(stem) and not stem.startswith(".") and "\0" not in stem and len(stem.encode()) <= _LONGEST_STEM


def _write(place: str, cell: dict | np.ndarray, folder: Path, is_remote: bool, stem: str | None) -> Path:
    """Write a cell as a file, under `stem` or its own name. What it holds says its format, not its suffix."""
    name = Path(cell["path"] or "") if isinstance(cell, dict) else Path(f"{stem}.npy")
    stem = stem or without_suffix(name).name
    if not _is_plain(stem):
        problem = f"images and masks are separate rows, but {name.name!r} is no name to pair by"
        raise DataError(f"data set {place}: {problem}")
    path = folder / f"{stem}{name.suffix if name.suffix.lower() in IMAGE_SUFFIXES else '.png'}"
    if path.exists():
        raise DataError(f"data set {place}: there are two files in {folder.name} with the name {path.name}")
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(cell, dict):
        path.write_bytes(_file_content(place, cell["path"], is_remote) if cell["bytes"] is None else cell["bytes"])
    else:  # (H, W), or (H, W, bands) where the bands come first
        bands_first = cell.ndim == 3 and cell.shape[0] in (1, 3) and cell.shape[2] not in (1, 3)
        np.save(path, np.moveaxis(cell, 0, 2) if bands_first else cell)
    return path


def _file_content(place: str, name: str | None, is_remote: bool) -> bytes:
    """Read what a cell without bytes points to. A data set from the Hub may point to its own files alone."""
    if not name:
        raise DataError(f"data set {place} holds neither an image nor a file's name")
    path = Path(name)
    own = [Path(folder).resolve() for folder in (HF_HOME, HF_HUB_CACHE, datasets.config.HF_DATASETS_CACHE)]
    if is_remote and not any(path.resolve().is_relative_to(folder) for folder in own):
        raise DataError(f"data set {place} points to {name}, which is not a part of the data set")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"data set {place} points to {name}, which cannot be read: {error.strerror}") from error
