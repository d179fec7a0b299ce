"""A data set by name, path or Hub id: its files are listed, checked and split before any library of data is needed."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .archives import content_root, unpack
from .catalog import DatasetSpec, find_dataset
from .checks import check_rows
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
from .mask_rule import USUAL, MaskRule
from .protocols import PROTOCOLS
from .readers.folder import read_folder
from .readers.listed import divide_by_lists
from .readers.table import TABLE_SUFFIXES, read_table
from .records import EMPTY, ESTIMATED, FIELDS_OF_VIEW, Layout, ReadOptions, Record, Splits
from .splits import complete_splits

if TYPE_CHECKING:
    from .rows import SegmentationData

logger = logging.getLogger(__name__)

_LOOKED_AT, _LOOKED_AT_SIDE = 5, 512  # images, and their side, that may want an estimated field of view


@dataclass(frozen=True)
class Listing:
    """The files of a data set, before any is decoded.

    Attributes:
        root: The folder that names in reports are relative to.
        splits: The rows of each split, as the layout divides them.
        shortcomings: One sentence for each way in which the set is incomplete.
    """

    root: Path
    splits: Splits
    shortcomings: list[str]


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
    missing_mask: str = "error",
    intensity: IntensityScaling | None = None,
    intensity_transform: str = "linear",
    intensity_percentiles: Sequence[float] | None = None,
    bands: Sequence[int] | None = None,
    validation_fraction: float = 0.1,
    seed: int = 0,
    skip_bad: bool = False,
) -> "SegmentationData":
    """Load a binary segmentation data set, checked and split.

    A row reads as a dict of `id` (str), `image` (uint8 (H, W, 3), RGB), `mask` (uint8 (H, W), 0 or 1) and
    `valid_mask` (bool (H, W), the field of view; all True if the set has none). Only paths are kept in memory.

    Args:
        name_or_path: A name of the catalogue, the path of a folder, archive or table of files, a data set on the Hub
            (`org/name`), or a catalogue entry of one's own (`dataclasses.replace(CATALOG["synthetic"], counts=...)`).
        data_dir: Where the files of a named data set lie (folder or archive); without it they come from the Hub.
        protocol: A key of `PROTOCOLS`. "paper" squashes validation and test images to 384 x 384 and has no field of
            view; it is only for reproducing the paper's table.
        split: Which of the set's lists divide it; "idiap" for those of the published baselines.
        annotator: Whose masks, if two people drew some: 1 or 2.
        fov: The field of view: "given" (from a file, else everything), "auto" (from a file, else estimated
            from the image), "none" (everything); by default as the catalogue says.
        layout: Names of folders, files or columns, if they are not the usual ones.
        mask_rule: What in a mask is structure. What it ignores leaves `valid_mask`.
        missing_mask: "error", or "empty": an image without a mask shows nothing to find.
        intensity: How images of more than 8 bits become 8 bits; by default fitted on the training images. Give an
            adapter's own to score it.
        intensity_transform: For that fit: "linear", "sqrt" or "log" (for radar amplitude). Images of 8 bits are fitted
            too if this or the percentiles are given.
        intensity_percentiles: For that fit: of the values that become 0 and 255; None as `fit_intensity_scaling` says.
        bands: Numbers of the one or three bands to take of each image, from 1, as (4, 3, 2). Images of two or of more
            than three bands need them.
        validation_fraction: Share of the training rows that become the validation split, if the set has none; 0 for
            no validation split.
        seed: Chooses those rows. The test split does not depend on it.
        skip_bad: Leave out unusable rows and rows with missing files, with a warning, instead of refusing the data set.

    Returns:
        The splits among train, validation and test that have rows; its `intensity` is what an adapter must keep.

    Raises:
        DataError: The name is unknown, the folder has another layout, or its files cannot be used; every problem is
            listed with the names of its files.

    >>> rows = load_segmentation_data("synthetic")["test"]
    >>> len(rows), rows[0]["image"].shape, rows[0]["mask"].dtype
    (40, (256, 256, 3), dtype('uint8'))
    """
    if protocol not in PROTOCOLS:
        raise DataError(f"unknown protocol {protocol!r}; allowed: {', '.join(PROTOCOLS)}")
    spec, location = find_dataset(name_or_path, data_dir)
    _require_options(spec, split, annotator, fov)
    if location is None:
        _require_nothing_to_read(spec, protocol, fov, layout or Layout())
        if mask_rule != USUAL or missing_mask != "error":
            raise DataError(f"data set {spec.name!r} is drawn: no setting of masks changes it")
        from .rows import SegmentationData, generated_rows

        return SegmentationData({part: generated_rows(spec, part) for part in spec.counts})
    options = ReadOptions(spec.counts, spec.split_lists.get(split, {}), annotator, skip_bad, layout or Layout())
    listing = list_rows(spec, location, options, split)
    for shortcoming in listing.shortcomings:
        logger.warning("%s: %s", listing.root, shortcoming)
    splits = _set_field_of_view(listing.splits, fov or spec.fov if PROTOCOLS[protocol].has_field_of_view else "none")
    if missing_mask not in ("error", "empty"):
        raise DataError(f"missing_mask must be error or empty, got {missing_mask!r}")
    if missing_mask == "empty":
        splits = {part: [replace(row, mask=row.mask or EMPTY) for row in rows] for part, rows in splits.items()}
    try:
        splits, report = check_rows(
            splits, listing.root, skip_bad=skip_bad, cut_validation=validation_fraction > 0, mask_rule=mask_rule,
            bands=bands,
        )  # fmt: skip
    except DataError as error:
        raise DataError("\n".join([str(error), *listing.shortcomings])) from error
    splits = complete_splits(
        splits, test_fraction=spec.test_fraction, validation_fraction=validation_fraction, seed=seed
    )
    is_asked = intensity_percentiles is not None or intensity_transform != "linear"
    if intensity is None:
        intensity = _fit_intensity(splits, report.numbers, intensity_percentiles, intensity_transform, bands)
    elif is_asked:
        raise DataError("the adapter's own intensity scaling is used: give no transform and no percentiles besides")
    if not intensity or not (intensity.of_8_bits or any(numbers.is_wide for numbers in report.numbers.values())):
        intensity = None
    from .rows import RowReader, SegmentationData, rows_from_records

    reader = RowReader(intensity, bands, mask_rule)
    data = SegmentationData({
        part: rows_from_records(records, replace(reader, squash=PROTOCOLS[protocol].squash_of(part)))
        for part, records in splits.items()
    })  # fmt: skip
    data.intensity, data.bands = intensity, tuple(bands) if bands else None
    data.structure = report.structure
    wants_hint = fov is None and PROTOCOLS[protocol].has_field_of_view
    hints = _hint_at_field_of_view(splits, bands) if wants_hint else ()
    data.remarks = (*listing.shortcomings, *report.sentences(), *_tell(report.numbers, intensity), *hints)
    return data


def list_rows(spec: DatasetSpec, location: Path | str, options: ReadOptions, split: str = "default") -> Listing:
    """Find the files of a data set, wherever `find_dataset` says that it is.

    Raises:
        DataError: The archive, folder, table or Hub data set has another layout, or is incomplete and may not be.
    """
    if isinstance(location, Path) and location.suffix.lower() in TABLE_SUFFIXES:
        options.layout.require_used(f"the table {location}", "column")
        return Listing(location.parent, *read_table(location, options))
    if isinstance(location, Path):
        root = location if location.is_dir() else unpack(location)
        named = options.layout.image_dir
        if named is None or not (root / named).is_dir():
            root = content_root(root)
        if not _is_saved_dataset(root):
            options.layout.require_used(str(root), *(["dir", "pattern"] if spec.layout_is_free else []))
            return Listing(root, *spec.reader(root, options))
        location = root
    options.layout.require_used(f"{location}, a data set with columns,", "column")
    if options.annotator != 1:
        raise DataError(f"{location} has one person's masks: annotator {options.annotator} needs the official archive")
    root = _export(spec, location, options)
    splits, shortcomings = read_folder(root, replace(options, layout=Layout()))
    by_lists = divide_by_lists(splits, options.lists)
    if by_lists is None and split != "default":
        raise DataError(f"{location} names its images otherwise than the official archive: split {split!r} needs that")
    if by_lists is None and options.lists:
        otherwise = "its images have other names than the official archive's, whose lists therefore do not divide it"
        shortcomings = [*shortcomings, otherwise]
    return Listing(root, by_lists or splits, shortcomings)


def _export(spec: DatasetSpec, location: Path | str, options: ReadOptions) -> Path:
    from .readers.hub import export_dataset

    try:
        return export_dataset(location, options.layout)
    except DataError as error:
        if isinstance(location, Path) or spec.reader is read_folder:
            raise
        raise DataError(
            f"{error}\nWithout the Hub, data set {spec.name!r} needs data_dir (--data_dir), a folder or an archive "
            f"with:\n{spec.layout}"
        ) from error


def _is_saved_dataset(folder: Path) -> bool:
    """Whether `save_to_disk` wrote the folder, or it holds Parquet files, as a download from the Hub does."""
    saved = any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))
    return saved or any(folder.glob("*.parquet")) or any(folder.glob("*/*.parquet"))


def _fit_intensity(
    splits: Splits,
    numbers: Mapping[Path, Numbers],
    percentiles: Sequence[float] | None,
    transform: str,
    bands: Sequence[int] | None,
) -> IntensityScaling | None:
    """The scaling that the training images ask for: those of more than 8 bits; else, if it is asked for, all.

    Raises:
        DataError: Their types are of several scales, or the transform is impossible or would change nothing.
    """
    require_one_scale(list(numbers.values()))
    wide = {image for image, each in numbers.items() if each.is_wide}
    if not wide and percentiles is None and transform == "linear":
        return None
    fitted = wide or numbers.keys()
    learnt_from = splits.get("train") or next(iter(splits.values()))
    images = [record.image for record in learnt_from if record.image in fitted] or sorted(fitted)
    pictures = (read_picture(path, bands=bands) for path in evenly_spread(images))
    return fit_intensity_scaling((picture.usable for picture in pictures), percentiles, transform)


def _tell(numbers: Mapping[Path, Numbers], intensity: IntensityScaling | None) -> list[str]:
    """What the values of the images are, unless all are 8 bits that stay as they are."""
    if intensity is None and not any(each.invalid for each in numbers.values()):
        return []
    return tell_numbers(list(numbers.values()), intensity)


def _require_options(spec: DatasetSpec, split: str, annotator: int, fov: str | None) -> None:
    if split != "default" and split not in spec.split_lists:
        allowed = ", ".join(dict.fromkeys(["default", *spec.split_lists]))
        raise DataError(f"data set {spec.name!r} has no split {split!r}; allowed: {allowed}")
    if not 1 <= annotator <= spec.annotators:
        raise DataError(
            f"data set {spec.name!r} has masks of {spec.annotators} annotator(s), got annotator {annotator}"
        )
    if fov is not None and fov not in FIELDS_OF_VIEW:
        raise DataError(f"unknown fov {fov!r}; allowed: {', '.join(FIELDS_OF_VIEW)}")


def _require_nothing_to_read(spec: DatasetSpec, protocol: str, fov: str | None, layout: Layout) -> None:
    """Drawn images come with their field of view, at one size."""
    layout.require_used(f"data set {spec.name!r}, which is drawn,")
    if protocol != "native" or fov not in (None, "given"):
        raise DataError(
            f"data set {spec.name!r} is drawn, with its field of view: protocol must be native and fov given, got "
            f"{protocol} and {fov or 'given'}"
        )


def _hint_at_field_of_view(splits: Splits, bands: Sequence[int] | None) -> Sequence[str]:
    """Whether most of a few images without a field of view are fundus photographs."""
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
        return ()
    hint = f"{len(images)} images have no field of view, and look like fundus photographs (a bright circle on a dark "
    hint += "ground): --fov auto estimates it, --fov none takes all"
    logger.warning(hint)
    return (hint,)


def _set_field_of_view(splits: Splits, fov: str) -> Splits:
    def view(record: Record) -> Path | str | None:
        if fov == "none":
            return None
        return record.valid_mask or (ESTIMATED if fov == "auto" else None)

    return {part: [replace(record, valid_mask=view(record)) for record in rows] for part, rows in splits.items()}
