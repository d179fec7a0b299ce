"""DRIVE as its authors distribute it."""

import re
from pathlib import Path

from ..archives import find_folder
from ..errors import DataError
from ..records import (
    ReadOptions,
    Record,
    Splits,
    describe_contents,
    list_images,
    name_rows,
    refuse_incomplete,
)

LAYOUT = """\
training/images/21_training.tif   training/1st_manual/21_manual1.gif   training/mask/21_training_mask.gif
test/images/01_test.tif           test/1st_manual/01_manual1.gif       test/mask/01_test_mask.gif
(`mask` is the field of view, `1st_manual` the vessels; files of one row share their leading number; a second annotator,
test/2nd_manual/01_manual2.gif, saw the test images only)"""

_FOLDERS = {"train": "training", "test": "test"}
_MASKS = {1: "1st_manual", 2: "2nd_manual"}
_SPLITS_OF_ANNOTATOR = {1: ("train", "test"), 2: ("test",)}
_NO_TEST_MASKS = (
    "{folder} holds images but no manual segmentations: DRIVE's challenge archive keeps those of the test images back. "
    "Put the segmentations into test/{masks}, or pass skip_bad (--skip_bad) to do without the test split"
)


def read_drive(data_dir: Path, options: ReadOptions) -> tuple[Splits, list[str]]:
    """Pairs image, vessels and field of view by their leading number.

    Args:
        data_dir: The folder that holds `training` and `test`.
        options: How many rows each split has, whose masks are read, and whether some may be missing.

    Returns:
        The splits that have any complete row, and one sentence for each way in which the archive is incomplete.

    Raises:
        DataError: Neither folder is there, or the archive is incomplete and that is not allowed.
    """
    folders = {split: find_folder(data_dir, _FOLDERS[split]) for split in _SPLITS_OF_ANNOTATOR[options.annotator]}
    if not any(folders.values()):
        raise DataError(f"{data_dir} is not DRIVE. Expected:\n{LAYOUT}\nFound: {describe_contents(data_dir)}")
    splits, problems = {}, []
    for split, folder in folders.items():
        expected = options.counts[split]
        records, problem = _read_split(folder, split, _MASKS[options.annotator], expected) if folder else ([], None)
        if len(records) < expected:
            problems.append(problem or f"{_FOLDERS[split]} has {len(records)} of {expected} rows")
        if records:
            splits[split] = records
    if problems and not (options.skip_bad and splits):
        raise refuse_incomplete(data_dir, problems, LAYOUT)
    return splits, problems


def _read_split(folder: Path, split: str, masks_name: str, expected: int) -> tuple[list[Record], str | None]:
    """The complete rows of one split, and what is missing from the others."""
    parts = {part: _by_number(folder, part) for part in ("images", masks_name, "mask")}
    images, masks, views = parts.values()
    if images and not masks and split == "test":
        return [], _NO_TEST_MASKS.format(folder=folder, masks=masks_name)
    complete = sorted(images.keys() & masks.keys() & views.keys())
    ids = name_rows([images[number] for number in complete], folder)
    records = [
        Record(row_id, images[number], masks[number], views[number])
        for row_id, number in zip(ids, complete, strict=True)
    ]
    missing = [
        f"{part} of {', '.join(str(number) for number in absent)}"
        for part, files in parts.items()
        if (absent := sorted((images.keys() | masks.keys() | views.keys()) - files.keys()))
    ]
    detail = f" (missing: {'; '.join(missing)})" if missing else ""
    return records, f"{_FOLDERS[split]} has {len(records)} of {expected} rows{detail}"


def _by_number(folder: Path, part: str) -> dict[int, Path]:
    subfolder = find_folder(folder, part)
    files: dict[int, Path] = {}
    for path in list_images(subfolder) if subfolder else []:
        number = re.match(r"\d+", path.name)
        if number is None:
            raise DataError(f"{path}: DRIVE's file names start with a number, as in 21_training.tif")
        if int(number[0]) in files:
            raise DataError(f"{path} and {files[int(number[0])]} have the same number; keep one of them")
        files[int(number[0])] = path
    return files
