"""SL-SSDD: sea and land in the SAR images of SSDD."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..archives import find_folder
from ..errors import DataError
from ..images.names import without_suffix
from ..records import (
    SPLIT_NAMES,
    ReadOptions,
    Record,
    Splits,
    describe_contents,
    list_images,
    read_names,
    refuse_incomplete,
)
from .listed import by_unique_id

LAYOUT = """\
images/000001.jpg   masks/000001.png   splits/train.txt, val.txt and test.txt (one name a line),
or as published: train/000002.png and test/000001.png are the masks (0 land, 255 sea), and the images, which are SSDD's,
lie in images/ or else beside the masks or in any other folder, under the same names: images/000001.jpg"""

_LISTS = {"train": ("train.txt",), "validation": ("val.txt", "validation.txt"), "test": ("test.txt",)}


def read_sl_ssdd(data_dir: Path, options: ReadOptions) -> tuple[Splits, list[str]]:
    """Pairs masks with the images of the same name, in either layout.

    Args:
        data_dir: The folder that holds `masks` and `splits`, or `train` and `test`.
        options: How many rows each split has (of the published layout), and whether some may be missing.

    Returns:
        The splits, and what is missing.

    Raises:
        DataError: The layout is another one, images are missing or there twice, or rows are missing and that is not
            allowed.
    """
    masks_folder, lists = find_folder(data_dir, "masks"), find_folder(data_dir, "splits")
    if masks_folder and lists:
        masks = list_images(masks_folder)
        mask_of = {without_suffix(path).name: path for path in masks}
        names = _listed_names(lists)
    else:
        folders = {split: find_folder(data_dir, *SPLIT_NAMES[split]) for split in ("train", "test")}
        if not any(folders.values()):
            raise DataError(f"{data_dir} is not SL-SSDD. Expected:\n{LAYOUT}\nFound: {describe_contents(data_dir)}")
        split_masks = {split: _masks(folder) for split, folder in folders.items() if folder}
        mask_of = {name: path for masks in split_masks.values() for name, path in masks.items()}
        masks = list(mask_of.values())
        names = {split: list(masks) for split, masks in split_masks.items()}
    taken = set(masks)
    images = list_images(find_folder(data_dir, "images") or data_dir)
    image_of = by_unique_id([(without_suffix(path).name, path) for path in images if path not in taken])
    return _rows(data_dir, names, image_of, mask_of, options)


def _listed_names(folder: Path) -> dict[str, list[str]]:
    files = {path.name.lower(): path for path in folder.iterdir()}
    found = {split: next((files[n] for n in names if n in files), None) for split, names in _LISTS.items()}
    if found["train"] is None:
        raise DataError(f"{folder} has no train.txt. Found: {describe_contents(folder)}")
    return {split: read_names(path) for split, path in found.items() if path}


def _masks(folder: Path) -> dict[str, Path]:
    """The masks of a published split: its PNG files, where images of other formats may lie beside them."""
    return {path.stem: path for path in list_images(folder) if path.suffix.lower() == ".png" and path.parent == folder}


def _rows(
    data_dir: Path,
    names: Mapping[str, Sequence[str]],
    image_of: Mapping[str, Path],
    mask_of: Mapping[str, Path],
    options: ReadOptions,
) -> tuple[Splits, list[str]]:
    splits, problems = {}, []
    for split, listed in names.items():
        records = [Record(n, image_of[n], mask_of[n]) for n in sorted(listed) if n in image_of and n in mask_of]
        expected = max(len(listed), options.counts.get(split, 0) if "validation" not in names else 0)
        if len(records) < expected:
            problems.append(f"{split} has {len(records)} of {expected} rows")
        if records:
            splits[split] = records
    for kind, files in (("image", image_of), ("mask", mask_of)):
        missing = sorted(name for listed in names.values() for name in listed if name not in files)
        if missing:
            problems.append(f"no {kind} for {len(missing)} names: {', '.join(missing)}")
    if problems and not (options.skip_bad and splits):
        raise refuse_incomplete(data_dir, problems, LAYOUT)
    return splits, problems
