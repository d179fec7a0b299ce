"""DRIVE as its authors distribute it."""

import re
from collections.abc import Mapping
from pathlib import Path

from .errors import DataError
from .records import Record, Splits, describe_contents, find_folder, list_images, name_rows

LAYOUT = """\
training/images/21_training.tif   training/1st_manual/21_manual1.gif   training/mask/21_training_mask.gif
test/images/01_test.tif           test/1st_manual/01_manual1.gif       test/mask/01_test_mask.gif
(`mask` is the field of view, `1st_manual` the vessels; files of one row share their leading number)"""

_FOLDERS = {"train": "training", "test": "test"}
_NO_TEST_MASKS = (
    "{folder} holds images but no manual segmentations: DRIVE's challenge archive keeps those of the test images back. "
    "Put the segmentations into test/1st_manual, or pass allow_partial (--allow_partial) to do without the test split"
)


def read_drive(data_dir: Path, counts: Mapping[str, int], allow_partial: bool) -> tuple[Splits, list[str]]:
    """Pairs image, vessels and field of view by their leading number.

    Args:
        data_dir: The folder that holds `training` and `test`.
        counts: How many rows each split of the whole archive has.
        allow_partial: Take the complete rows of an incomplete archive.

    Returns:
        The splits that have any complete row, and one sentence for each way in which the archive is incomplete.

    Raises:
        DataError: Neither folder is there, or the archive is incomplete and `allow_partial` is False.
    """
    folders = {split: find_folder(data_dir, name) for split, name in _FOLDERS.items()}
    if not any(folders.values()):
        raise DataError(f"{data_dir} is not DRIVE. Expected:\n{LAYOUT}\nFound: {describe_contents(data_dir)}")
    splits, problems = {}, []
    for split, folder in folders.items():
        records, problem = _read_split(folder, _FOLDERS[split], counts[split]) if folder else ([], None)
        if len(records) < counts[split]:
            problems.append(problem or f"{_FOLDERS[split]} has {len(records)} of {counts[split]} rows")
        if records:
            splits[split] = records
    if problems and not (allow_partial and splits):
        raise DataError(
            f"{data_dir} is incomplete:\n  " + "\n  ".join(problems) + f"\nExpected:\n{LAYOUT}\n"
            "allow_partial (--allow_partial) takes the complete rows that are there."
        )
    return splits, problems


def _read_split(folder: Path, name: str, expected: int) -> tuple[list[Record], str | None]:
    """The complete rows of one split, and what is missing from the others."""
    images, masks, views = (_by_number(folder, part) for part in ("images", "1st_manual", "mask"))
    if images and not masks and name == _FOLDERS["test"]:
        return [], _NO_TEST_MASKS.format(folder=folder)
    complete = sorted(images.keys() & masks.keys() & views.keys())
    ids = name_rows([images[number] for number in complete], folder)
    records = [
        Record(row_id, images[number], masks[number], views[number])
        for row_id, number in zip(ids, complete, strict=True)
    ]
    missing = [
        f"{part} of {', '.join(str(number) for number in absent)}"
        for part, files in (("images", images), ("1st_manual", masks), ("mask", views))
        if (absent := sorted((images.keys() | masks.keys() | views.keys()) - files.keys()))
    ]
    detail = f" (missing: {'; '.join(missing)})" if missing else ""
    return records, f"{name} has {len(records)} of {expected} rows{detail}"


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
