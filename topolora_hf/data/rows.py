"""Rows that decode, or are drawn, when they are read."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, Features, Value
from PIL import Image

from ..fundus.field_of_view import estimate_field_of_view
from .catalog import DatasetSpec
from .errors import DataError
from .images.masks import combine, decode_mask, read_mask
from .images.pictures import Picture, read_picture
from .intensity import IntensityScaling
from .mask_rule import USUAL_FORM, MaskForm
from .records import EMPTY, ESTIMATED, Record, printable

COLUMNS = ("id", "image", "mask", "valid_mask")

_BETWEEN, _BETWEEN_CLASSES = "\0", "\0\0"  # files of one mask, and those of two classes
_EMPTY = f"{EMPTY}{_BETWEEN}"  # and the image, whose size the mask has
_SYNTHETIC_SEED = 0
_SYNTHETIC_FIRST_INDEX = {"train": 0, "validation": 1_000_000, "test": 2_000_000}


class SegmentationData(DatasetDict):
    """Splits, and what was found while they were loaded.

    Attributes:
        intensity: How images of more than 8 bits became 8 bits; None if all have 8.
        bands: Numbers of the bands that were read of each image; None for grey and RGB images.
        labels: The names of the K maps of a mask.
        exclusive: Whether a pixel has one class at most; False for one class.
        thin: Which classes are thin structures.
        structure: How many masks take which level as structure, where no rule names it.
        levels: The levels of the masks, with their share of all pixels and what each is taken for.
        remarks: Sentences on what is missing, was left out, may be a mistake or is good to know.
    """

    intensity: IntensityScaling | None = None
    bands: tuple[int, ...] | None = None
    labels: tuple[str, ...] = ("foreground",)
    exclusive: bool = False
    thin: tuple[bool, ...] = (True,)
    structure: Mapping[str, int] = MappingProxyType({})
    levels: Mapping[str, tuple[float, str]] = MappingProxyType({})
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class RowReader:
    """How the paths of rows become arrays."""

    intensity: IntensityScaling | None = None
    bands: Sequence[int] | None = None
    form: MaskForm = USUAL_FORM
    squash: int | None = None  # resize rows to a square of this side; None for their own size

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Paths to arrays; `batch` has only those columns that the caller asked for."""
        rows = dict(batch)
        if "valid_mask" in batch and not {"image", "mask"} <= batch.keys():
            raise DataError("valid_mask depends on image and mask. Read whole rows")
        if "image" in batch:
            pictures = [read_picture(os.fsdecode(path), bands=self.bands) for path in batch["image"]]
            rows["image"] = [picture.rgb(self.intensity) for picture in pictures]
        if "mask" in batch:
            shapes = [image.shape[:2] for image in rows["image"]] if "image" in batch else [None] * len(batch["mask"])
            masks = [self._mask(os.fsdecode(text), shape) for text, shape in zip(batch["mask"], shapes, strict=True)]
            rows["mask"] = [mask for mask, _ in masks]
        if "valid_mask" in batch:
            columns = (batch["valid_mask"], rows["image"], pictures, masks)
            rows["valid_mask"] = [_valid_pixels(*row) for row in zip(*columns, strict=True)]
        if self.squash is not None:
            for column in rows.keys() & {"image", "mask", "valid_mask"}:
                rows[column] = [self._squashed(array, column) for array in rows[column]]
        return rows

    def _squashed(self, array: np.ndarray, column: str) -> np.ndarray:
        if column == "mask":
            return np.stack([self._squashed(each, "") for each in array])
        method = Image.Resampling.BILINEAR if column == "image" else Image.Resampling.NEAREST
        return np.asarray(Image.fromarray(array).resize((self.squash, self.squash), method))

    def _mask(self, text: str, shape: tuple[int, int] | None) -> tuple[np.ndarray, np.ndarray | None]:
        """The masks (K, H, W) and what they ignore."""
        maps = len(self.form.names)
        if text.startswith(_EMPTY):
            shape = shape or read_picture(text.removeprefix(_EMPTY), bands=self.bands).values.shape
            return np.zeros((maps, *shape[:2]), np.uint8), None
        groups = [[] if group == EMPTY else group.split(_BETWEEN) for group in text.split(_BETWEEN_CLASSES)]
        rules = zip(groups, self.form.rules, strict=False)
        return combine([[read_mask(path, rule=rule) for path in group] for group, rule in rules], maps)


def _valid_pixels(path: str | bytes | None, image: np.ndarray, picture: Picture, mask: tuple) -> np.ndarray:
    """The field of view without pixels that have no data or no class."""
    name = None if path is None else os.fsdecode(path)
    if name is None:
        valid = np.ones(image.shape[:2], dtype=bool)
    else:
        valid = estimate_field_of_view(image) if name == ESTIMATED else decode_mask(name).astype(bool)
    valid = valid if picture.valid is None else valid & picture.valid
    return valid if mask[1] is None else valid & ~mask[1]


def rows_from_records(records: Sequence[Record], reader: RowReader = RowReader()) -> Dataset:  # noqa: B008 (frozen)
    """Make a data set of paths. Its rows decode when they are read."""
    columns = {
        "id": [printable(record.id) for record in records],
        "image": [str(record.image) for record in records],
        "mask": [_EMPTY + str(record.image) if record.is_negative else _mask_text(record) for record in records],
        "valid_mask": [str(record.valid_mask) if record.valid_mask else None for record in records],
    }
    features = Features({column: Value("string") for column in COLUMNS})
    for column in COLUMNS[1:]:
        if not all(path is None or printable(path) == path for path in columns[column]):
            # Names of files are bytes; these are no Unicode and cannot be text.
            columns[column] = [None if path is None else os.fsencode(path) for path in columns[column]]
            features[column] = Value("binary")
    return Dataset.from_dict(columns, features=features).with_transform(reader)


def _mask_text(record: Record) -> str:
    """The files of a row's masks as one text, which `RowReader._mask` takes apart."""
    return _BETWEEN_CLASSES.join(_BETWEEN.join(map(str, group)) or EMPTY for group in record.groups)


def generated_data(spec: DatasetSpec) -> SegmentationData:
    """Make a data set of numbers. Its rows are drawn when they are read."""
    data, draw = SegmentationData(), partial(_draw_rows, size=spec.image_size, kinds=spec.kinds)
    for split, count in spec.counts.items():
        first = _SYNTHETIC_FIRST_INDEX[split]
        numbers = list(range(first, first + count))
        data[split] = Dataset.from_dict(dict.fromkeys(COLUMNS, numbers)).with_transform(draw)
    if spec.classes is not None:
        data.labels, data.thin = spec.classes.names, spec.classes.thin
    return data


def _draw_rows(batch: dict[str, list[int]], size: int, kinds: Sequence[str]) -> dict[str, list[Any]]:
    """Image numbers to rows: every column holds the number, so any of them can be read alone."""
    from ..synthetic.picture import draw_synthetic

    samples = [draw_synthetic(number, _SYNTHETIC_SEED, size, kinds) for number in next(iter(batch.values()))]
    return {column: [sample[column] for sample in samples] for column in batch}
