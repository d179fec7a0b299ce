"""Rows that decode, or are drawn, when they are read."""

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, Features, Value
from PIL import Image

from ..fundus.field_of_view import estimate_field_of_view
from .catalog import DatasetSpec
from .errors import DataError
from .images.masks import decode_mask
from .images.pictures import read_picture
from .intensity import IntensityScaling
from .records import ESTIMATED, Record, printable

COLUMNS = ("id", "image", "mask", "valid_mask")

_SYNTHETIC_SEED = 0
_SYNTHETIC_FIRST_INDEX = {"train": 0, "validation": 1_000_000, "test": 2_000_000}


class SegmentationData(DatasetDict):
    """Splits, and what was found while they were loaded.

    Attributes:
        intensity: How images of more than 8 bits became 8 bits; None if all have 8.
        bands: Numbers of the bands that were read of each image; None for grey and RGB images.
        remarks: Sentences on what is missing, was left out, may be a mistake or is good to know.
    """

    intensity: IntensityScaling | None = None
    bands: tuple[int, ...] | None = None
    remarks: tuple[str, ...] = ()


def rows_from_records(
    records: Sequence[Record],
    intensity: IntensityScaling | None = None,
    squash: int | None = None,
    bands: Sequence[int] | None = None,
) -> Dataset:
    """Make a data set of paths. Its rows decode when they are read.

    Args:
        records: The files of each row.
        intensity: How images of more than 8 bits become 8 bits.
        squash: Resize rows to a square of this side; None for their own size.
        bands: As for `decode_image`.
    """
    columns = {
        "id": [printable(record.id) for record in records],
        "image": [str(record.image) for record in records],
        "mask": [str(record.mask) for record in records],
        "valid_mask": [str(record.valid_mask) if record.valid_mask else None for record in records],
    }
    features = Features({column: Value("string") for column in COLUMNS})
    for column in COLUMNS[1:]:
        if not all(path is None or printable(path) == path for path in columns[column]):
            # Names of files are bytes; these are no Unicode and cannot be text.
            columns[column] = [None if path is None else os.fsencode(path) for path in columns[column]]
            features[column] = Value("binary")
    return Dataset.from_dict(columns, features=features).with_transform(
        partial(_decode_rows, intensity=intensity, squash=squash, bands=bands)
    )


def generated_rows(spec: DatasetSpec, split: str) -> Dataset:
    """Make a data set of numbers. Its rows are drawn when they are read."""
    first = _SYNTHETIC_FIRST_INDEX[split]
    numbers = list(range(first, first + spec.counts[split]))
    draw = partial(_draw_rows, size=spec.image_size, kinds=spec.kinds)
    return Dataset.from_dict({column: numbers for column in COLUMNS}).with_transform(draw)


def _draw_rows(batch: dict[str, list[int]], size: int, kinds: Sequence[str]) -> dict[str, list[Any]]:
    """Image numbers to rows: every column holds the number, so any of them can be read alone."""
    numbers = next(iter(batch.values()))
    from ..synthetic.picture import draw_synthetic

    samples = [draw_synthetic(number, _SYNTHETIC_SEED, size, kinds) for number in numbers]
    return {column: [sample[column] for sample in samples] for column in batch}


def _decode_rows(
    batch: dict[str, list[Any]], intensity: IntensityScaling | None, squash: int | None, bands: Sequence[int] | None
) -> dict[str, list[Any]]:
    """Paths to arrays; `batch` has only those columns that the caller asked for."""
    rows = dict(batch)
    if "image" in batch:
        pictures = [read_picture(os.fsdecode(path), bands=bands) for path in batch["image"]]
        rows["image"] = [picture.rgb(intensity) for picture in pictures]
    if "mask" in batch:
        rows["mask"] = [decode_mask(os.fsdecode(path)) for path in batch["mask"]]
    if "valid_mask" in batch:
        if "image" not in batch:
            raise DataError("valid_mask cannot be read without the image, of which it has the size. Read whole rows")
        rows["valid_mask"] = [
            _decode_valid_mask(path, image, picture.valid)
            for path, image, picture in zip(batch["valid_mask"], rows["image"], pictures, strict=True)
        ]
    if squash is not None:
        for column in rows.keys() & {"image", "mask", "valid_mask"}:
            method = Image.Resampling.BILINEAR if column == "image" else Image.Resampling.NEAREST
            rows[column] = [
                np.asarray(Image.fromarray(array).resize((squash, squash), method)) for array in rows[column]
            ]
    return rows


def _decode_valid_mask(path: str | bytes | None, image: np.ndarray, has_data: np.ndarray | None) -> np.ndarray:
    """The field of view, without the pixels for which the image has no data."""
    if path is None:
        return np.ones(image.shape[:2], dtype=bool) if has_data is None else has_data
    name = os.fsdecode(path)
    view = estimate_field_of_view(image) if name == ESTIMATED else decode_mask(name).astype(bool)
    return view if has_data is None else view & has_data
