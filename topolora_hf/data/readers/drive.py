"""DRIVE as its authors distribute it."""

from dataclasses import replace
from pathlib import Path

from ..archives import find_folder
from ..errors import DataError
from ..records import ReadOptions, Splits, describe_contents
from .listed import numbered, read_listed

LAYOUT = """\
training/images/21_training.tif   training/1st_manual/21_manual1.gif   training/mask/21_training_mask.gif
test/images/01_test.tif           test/1st_manual/01_manual1.gif       test/mask/01_test_mask.gif
(`mask` is the field of view, `1st_manual` the vessels; files of one row share their leading number; a second
annotator, test/2nd_manual/01_manual2.gif, saw the test images only; the challenge's archive keeps those of the test
images back: skip_bad does without)"""

_NUMBERS = {"train": range(21, 41), "test": range(1, 21)}
_FOLDERS = {"train": "training", "test": "test"}
_MASKS = {1: "1st_manual", 2: "2nd_manual"}


def read_drive(data_dir: Path, options: ReadOptions) -> tuple[Splits, list[str]]:
    """Pair image, vessels and field of view by their leading number."""
    splits = ("test",) if options.annotator == 2 else ("train", "test")
    folders = {split: find_folder(data_dir, _FOLDERS[split]) for split in splits}
    if not any(folders.values()):
        raise DataError(f"{data_dir} is not DRIVE. Expected:\n{LAYOUT}\nFound: {describe_contents(data_dir)}")
    files: dict[str, dict[str, Path]] = {"image": {}, "mask": {}, "field of view": {}}
    for split, folder in folders.items():
        for kind, name in zip(files, ("images", _MASKS[options.annotator], "mask"), strict=True):
            part = folder and find_folder(folder, name)
            files[kind] |= numbered(part, r"(\d+)", f"{{:02d}}_{_FOLDERS[split]}")
    lists = {split: [f"{number:02d}_{_FOLDERS[split]}" for number in _NUMBERS[split]] for split in splits}
    return read_listed(data_dir, files, replace(options, lists=lists), LAYOUT)
