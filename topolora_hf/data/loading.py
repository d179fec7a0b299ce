"""A data set by name or folder, as a `datasets.DatasetDict` that decodes its rows when they are read."""

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, Features, Value

from .catalog import DatasetSpec, find_dataset
from .checks import check_rows
from .decode import decode_image, decode_mask
from .errors import DataError
from .records import Record
from .splits import complete_splits
from .synthetic import draw_synthetic

logger = logging.getLogger(__name__)

COLUMNS = ("id", "image", "mask", "valid_mask")
PROTOCOLS = ("native",)

_SYNTHETIC_SEED = 0
_SYNTHETIC_FIRST_INDEX = {"train": 0, "validation": 1_000_000, "test": 2_000_000}


def load_segmentation_data(
    name_or_path: str | DatasetSpec,
    data_dir: str | None = None,
    protocol: str = "native",
    *,
    validation_fraction: float = 0.1,
    seed: int = 0,
    skip_bad: bool = False,
    allow_partial: bool = False,
) -> DatasetDict:
    """Loads a binary segmentation data set, checked and split.

    A row reads as a dict of `id` (str), `image` (uint8 (H, W, 3), RGB), `mask` (uint8 (H, W), 0 or 1) and
    `valid_mask` (bool (H, W), the field of view; all True where the set has none). Only paths are kept in memory.

    Args:
        name_or_path: A name of the catalogue, the path of a folder with `images/` and `masks/`, or a catalogue entry
            of one's own (`dataclasses.replace(CATALOG["synthetic"], counts=...)`).
        data_dir: Where the files of a named data set lie.
        protocol: How training and scores treat the images; "native" is the only one.
        validation_fraction: Share of the training rows cut off as validation, where the set has no such split; 0 for
            no validation split.
        seed: Decides that cut. The test split does not depend on it.
        skip_bad: Leave unusable rows out with a warning, rather than refuse the data set.
        allow_partial: Take what is there of an archive known to be incomplete.

    Returns:
        The splits among train, validation and test that have rows.

    Raises:
        DataError: The name is unknown, the folder has another layout, or its files cannot be used; every problem is
            listed with the names of its files.

    >>> rows = load_segmentation_data("synthetic")["test"]
    >>> len(rows), rows[0]["image"].shape, rows[0]["mask"].dtype
    (40, (256, 256, 3), dtype('uint8'))
    """
    if protocol not in PROTOCOLS:
        raise DataError(f"unknown protocol {protocol!r}; allowed: {', '.join(PROTOCOLS)}")
    spec, folder = find_dataset(name_or_path, data_dir)
    if spec.reader is None or folder is None:
        return DatasetDict({split: _generated_rows(spec, split) for split in spec.counts})
    splits, shortcomings = spec.reader(folder, spec.counts, allow_partial)
    for shortcoming in shortcomings:
        logger.warning("%s is incomplete: %s", folder, shortcoming)
    splits = check_rows(splits, folder, skip_bad=skip_bad)
    splits = complete_splits(
        splits, test_fraction=spec.test_fraction, validation_fraction=validation_fraction, seed=seed
    )
    return DatasetDict({split: rows_from_records(records) for split, records in splits.items()})


def rows_from_records(records: Sequence[Record]) -> Dataset:
    """A data set of paths whose rows decode when they are read."""
    columns = {
        "id": [record.id for record in records],
        "image": [str(record.image) for record in records],
        "mask": [str(record.mask) for record in records],
        "valid_mask": [str(record.valid_mask) if record.valid_mask else None for record in records],
    }
    features = Features({column: Value("string") for column in COLUMNS})
    return Dataset.from_dict(columns, features=features).with_transform(_decode_rows)


def _decode_rows(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Paths to arrays; `batch` has only those columns that the caller asked for."""
    rows = dict(batch)
    if "image" in batch:
        rows["image"] = [decode_image(path) for path in batch["image"]]
    if "mask" in batch:
        rows["mask"] = [decode_mask(path) for path in batch["mask"]]
    if "valid_mask" in batch:
        sized = rows.get("image") or rows.get("mask")
        if sized is None:
            raise DataError("valid_mask cannot be read alone: its size is the image's. Read whole rows")
        rows["valid_mask"] = [
            decode_mask(path).astype(bool) if path else np.ones(like.shape[:2], dtype=bool)
            for path, like in zip(batch["valid_mask"], sized, strict=True)
        ]
    return rows


def _generated_rows(spec: DatasetSpec, split: str) -> Dataset:
    first = _SYNTHETIC_FIRST_INDEX[split]
    numbers = list(range(first, first + spec.counts[split]))
    draw = partial(_draw_rows, size=spec.image_size, kinds=spec.kinds)
    return Dataset.from_dict({column: numbers for column in COLUMNS}).with_transform(draw)


def _draw_rows(batch: dict[str, list[int]], size: int, kinds: Sequence[str]) -> dict[str, list[Any]]:
    """Image numbers to rows: every column holds the number, so any of them can be read alone."""
    numbers = next(iter(batch.values()))
    samples = [draw_synthetic(number, _SYNTHETIC_SEED, size, kinds) for number in numbers]
    return {column: [sample[column] for sample in samples] for column in batch}
