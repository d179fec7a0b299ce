"""A data set by name, path or Hub id: its files are listed, checked and split before any library of data is needed."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .archives import content_root, unpack
from .catalog import DatasetSpec, find_dataset
from .checks import check_rows
from .classes import Classes, read_classes
from .errors import DataError
from .images.pictures import read_picture
from .intensity import (
    IntensityScaling,
    Numbers,
    evenly_spread,
    fit_intensity_scaling,
    require_one_scale,
    tell_numbers,
)
from .mask_rule import USUAL, MaskForm, MaskRule
from .protocols import PROTOCOLS
from .readers.folder import read_folder
from .readers.table import TABLE_SUFFIXES, read_table
from .records import EMPTY, ESTIMATED, FIELDS_OF_VIEW, Layout, ReadOptions, Record, Splits
from .splits import complete_splits

if TYPE_CHECKING:
    from .rows import SegmentationData

logger = logging.getLogger(__name__)

_LOOKED_AT, _LOOKED_AT_SIDE = 5, 512  # images, and their side, that may want an estimated field of view


def load_segmentation_data(
    name_or_path: str | DatasetSpec,
    data_dir: str | None = None,
    protocol: str = "native",
    *,
    split: str = "default",
    annotator: int = 1,
    fov: str | None = None,
    layout: Layout | None = None,
    mask_rule: MaskRule = USUAL,
    classes: "Classes | Mapping | Sequence[str] | str | None" = None,
    missing_mask: str = "error",
    intensity: IntensityScaling | None = None,
    intensity_transform: str = "linear",
    intensity_percentiles: Sequence[float] | None = None,
    bands: Sequence[int] | None = None,
    validation_fraction: float = 0.1,
    seed: int = 0,
    skip_bad: bool = False,
) -> "SegmentationData":
    """Load a segmentation data set of one class or several, checked and split.

    A row reads as a dict of `id` (str), `image` (uint8 (H, W, 3), RGB), `mask` (uint8 (K, H, W), 0 or 1) and
    `valid_mask` (bool (H, W), the field of view; all True if the set has none). Only paths are kept in memory.

    Args:
        name_or_path: A name of the catalogue, the path of a folder, archive or table of files, a data set on the Hub
            (`org/name`), or a catalogue entry of one's own (`dataclasses.replace(CATALOG["synthetic"], counts=...)`).
        data_dir: Where the files of a named data set lie (folder or archive); without it they come from the Hub.
        protocol: A key of `PROTOCOLS`. "paper" squashes validation and test images to 384 x 384 and has no field of
            view; it is only for reproducing the paper's table.
        split: Which of the set's lists divide it; "idiap" for those of the published baselines.
        annotator: Whose masks, if two people drew some: 1 or 2.
        fov: The field of view: "given" (from a file, else everything), "auto" (from a file, else estimated from the
            image), "none" (everything); by default as the catalogue says.
        layout: Names of folders, files or columns, if they are not the usual ones.
        mask_rule: What in a mask is structure. What it ignores leaves `valid_mask`.
        classes: The classes, if there are several: `{"artery": [1, 3], "vein": [2, 3]}`, or what --classes says as a
            list, or the path of a file of such a mapping. A name's value is a number, a range ("1-3"), a colour
            ("#ff0000"), a folder ("vein/"), files ("{stem}_vein.png"), a column, a label of a label tool, or a list.
        missing_mask: "error", or "empty": an image without a mask shows nothing to find.
        intensity: How images of more than 8 bits become 8 bits; by default fitted on the training images. Give an
            adapter's own to score it.
        intensity_transform: For that fit: "linear", "sqrt" or "log" (for radar amplitude). Images of 8 bits are fitted
            too if this or the percentiles are given.
        intensity_percentiles: For that fit: of the values that become 0 and 255; None as `fit_intensity_scaling` says.
        bands: Numbers of the one or three bands to take of each image, from 1. Two or more than three bands need them.
        validation_fraction: Share of the training rows that become the validation split, if the set has none.
        seed: Chooses those rows. The test split does not depend on it.
        skip_bad: Leave out unusable rows and rows with missing files, with a warning, instead of refusing the data set.

    Returns:
        The splits among train, validation and test that have rows; its `labels`, `exclusive` and `thin` say what the K
        maps of a mask are, and its `intensity` is what an adapter must keep.

    Raises:
        DataError: The name is unknown, the folder has another layout, or its files cannot be used; every problem is
            listed with the names of its files.

    Example:
        >>> rows = load_segmentation_data("synthetic")["test"]
        >>> image, mask = map(rows[0].get, ("image", "mask"))
        >>> len(rows), image.shape, mask.dtype
        (40, (256, 256, 3), dtype('uint8'))
    """
    spec, location = find_dataset(name_or_path, data_dir)
    for what, value, allowed in (
        ("protocol", protocol, PROTOCOLS),
        ("split", split, ("default", *(name for name in spec.split_lists if name != "default"))),
        ("annotator", annotator, range(1, spec.annotators + 1)),
        ("fov", fov or "given", FIELDS_OF_VIEW),
        ("missing_mask", missing_mask, ("error", "empty")),
    ):
        if value not in allowed:
            raise DataError(f"data set {spec.name!r} has no {what} {value!r}; allowed: {', '.join(map(str, allowed))}")
    layout, classes = layout or Layout(), read_classes(classes)
    if location is None:
        layout.require_used(f"data set {spec.name!r}, which is drawn,")
        if (protocol, fov or "given", mask_rule, classes, missing_mask) != ("native", "given", USUAL, None, "error"):
            raise DataError(
                f"data set {spec.name!r} is drawn, with its field of view: protocol must be native and fov given, got "
                f"{protocol} and {fov or 'given'}, and no setting of masks changes it"
            )
        from .rows import generated_data

        return generated_data(spec)
    classes = classes or spec.classes
    options = ReadOptions(spec.counts, spec.split_lists.get(split, {}), annotator, skip_bad, layout, classes)
    root, splits, shortcomings = list_rows(spec, location, options, split)
    for shortcoming in shortcomings:
        logger.warning("%s: %s", root, shortcoming)
    has_view = PROTOCOLS[protocol].has_field_of_view
    view = fov or spec.fov if has_view else "none"
    splits = {part: [_decided(row, view, missing_mask) for row in rows] for part, rows in splits.items()}
    form = _form(mask_rule, classes, splits)
    try:
        splits, report = check_rows(
            splits, root, skip_bad=skip_bad, cut_validation=validation_fraction > 0, form=form, bands=bands
        )
    except DataError as error:
        raise DataError("\n".join([str(error), *shortcomings])) from error
    splits = complete_splits(
        splits, test_fraction=spec.test_fraction, validation_fraction=validation_fraction, seed=seed
    )
    if intensity is None:
        intensity = _fit_intensity(splits, report.numbers, intensity_percentiles, intensity_transform, bands)
    elif intensity_percentiles is not None or intensity_transform != "linear":
        raise DataError("the adapter's own intensity scaling is used: give no transform and no percentiles besides")
    numbers = list(report.numbers.values())
    if not intensity or not (intensity.of_8_bits or any(each.is_wide for each in numbers)):
        intensity = None
    is_plain = intensity is None and not any(each.invalid for each in numbers)
    remarks = [*shortcomings, *report.sentences, *([] if is_plain else tell_numbers(numbers, intensity))]
    if fov is None and has_view:
        remarks += _hint_at_field_of_view(splits, bands)
    from .rows import RowReader, SegmentationData, rows_from_records

    reader = RowReader(intensity, bands, form)
    data = SegmentationData({
        part: rows_from_records(records, replace(reader, squash=PROTOCOLS[protocol].squash_of(part)))
        for part, records in splits.items()
    })  # fmt: skip
    data.intensity, data.bands = intensity, tuple(bands) if bands else None
    data.labels, data.exclusive = form.names, form.exclusive
    data.thin = classes.thin if classes else (True,)
    data.structure, data.levels, data.remarks = report.structure, report.levels, tuple(remarks)
    return data


def list_rows(
    spec: DatasetSpec, location: Path | str, options: ReadOptions, split: str = "default"
) -> tuple[Path, Splits, list[str]]:
    """Find the files of a data set, wherever `find_dataset` says that it is. None is decoded.

    Returns:
        The folder that names in reports are relative to; the rows of each split, as the layout divides them; and one
        sentence for each way in which the set is incomplete.

    Raises:
        DataError: The archive, folder, table or Hub data set has another layout, or is incomplete and may not be.
    """
    layout = options.layout
    if isinstance(location, Path) and location.suffix.lower() in TABLE_SUFFIXES:
        layout.require_used(f"the table {location}", "column")
        return location.parent, *read_table(location, options)
    if isinstance(location, Path):
        location = location if location.is_dir() else unpack(location)
        if layout.image_dir is None or not (location / layout.image_dir).is_dir():
            location = content_root(location)
        if not _is_saved_dataset(location):
            layout.require_used(str(location), *(["dir", "pattern", "layer", "width"] if spec.layout_is_free else []))
            return location, *spec.reader(location, options)
    layout.require_used(f"{location}, a data set with columns,", "column")
    if options.annotator != 1:
        raise DataError(f"{location} has one person's masks: annotator {options.annotator} needs the official archive")
    from .readers.hub import export_dataset

    try:
        root = export_dataset(location, layout, options.classes)
    except DataError as error:
        if isinstance(location, Path) or spec.reader is read_folder:
            raise
        needed = f"data set {spec.name!r} needs data_dir (--data_dir), a folder or an archive with:\n{spec.layout}"
        raise DataError(f"{error}\nWithout the Hub, {needed}") from error
    of_files = options.classes if options.classes is None or options.classes.by_value else options.classes.named_alone
    splits, shortcomings = read_folder(root, replace(options, layout=Layout(), classes=of_files))
    by_id = {record.id: record for records in splits.values() for record in records}
    if options.lists and {row_id for ids in options.lists.values() for row_id in ids} == by_id.keys():
        splits = {part: [by_id[row_id] for row_id in ids] for part, ids in options.lists.items()}
    elif split != "default":
        raise DataError(f"{location} names its images otherwise than the official archive: split {split!r} needs that")
    elif options.lists:
        otherwise = "its images have other names than the official archive's, whose lists therefore do not divide it"
        shortcomings = [*shortcomings, otherwise]
    return root, splits, shortcomings


def _is_saved_dataset(folder: Path) -> bool:
    """Whether `save_to_disk` wrote the folder, or it holds Parquet files, as a download from the Hub does."""
    signs = ("dataset_dict.json", "state.json", "*.parquet", "*/*.parquet")
    return any(any(folder.glob(sign)) for sign in signs)


def _decided(record: Record, fov: str, missing_mask: str) -> Record:
    """The record with the field of view and the mask that the settings say where it has no file of them."""
    view = None if fov == "none" else record.valid_mask or (ESTIMATED if fov == "auto" else None)
    missing = EMPTY if missing_mask == "empty" else None
    of_classes = tuple(mask or missing for mask in record.class_masks)
    return replace(record, valid_mask=view, mask=record.mask or missing, class_masks=of_classes)


def _form(rule: MaskRule, classes: Classes | None, splits: Splits) -> MaskForm:
    """How the masks of these rows are read."""
    if classes is None:
        return MaskForm((rule,))
    return classes.form(rule, any(record.class_masks for records in splits.values() for record in records))


def _fit_intensity(
    splits: Splits, numbers: Mapping[Path, Numbers], percentiles: Sequence[float] | None, transform: str,
    bands: Sequence[int] | None,
) -> IntensityScaling | None:  # fmt: skip
    """The scaling that the training images ask for: those of more than 8 bits; else, if it is asked for, all."""
    require_one_scale(list(numbers.values()))
    wide = {image for image, each in numbers.items() if each.is_wide}
    if not wide and percentiles is None and transform == "linear":
        return None
    fitted = wide or numbers.keys()
    learnt_from = splits.get("train") or next(iter(splits.values()))
    images = [record.image for record in learnt_from if record.image in fitted] or sorted(fitted)
    pictures = (read_picture(path, bands=bands) for path in evenly_spread(images))
    return fit_intensity_scaling((picture.usable for picture in pictures), percentiles, transform)


def _hint_at_field_of_view(splits: Splits, bands: Sequence[int] | None) -> list[str]:
    """Say so if most of a few images without a field of view are fundus photographs."""
    from PIL import Image

    from ..fundus.field_of_view import estimate_field_of_view

    images = [record.image for rows in splits.values() for record in rows if record.valid_mask is None]
    looked_at = evenly_spread(images, _LOOKED_AT) if images else []
    round_ones = 0
    for path in looked_at:
        picture = Image.fromarray(read_picture(path, bands=bands).rgb())
        picture.thumbnail((_LOOKED_AT_SIDE, _LOOKED_AT_SIDE))
        round_ones += not estimate_field_of_view(np.asarray(picture)).all()
    if 2 * round_ones <= len(looked_at):
        return []
    hint = f"{len(images)} images have no field of view, and look like fundus photographs (a bright circle on a dark "
    hint += "ground): --fov auto estimates it, --fov none takes all"
    logger.warning(hint)
    return [hint]
