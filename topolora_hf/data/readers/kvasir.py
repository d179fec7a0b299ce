"""Kvasir-SEG: a folder of images and masks whose published split is a list of names."""

from pathlib import Path

from ..errors import DataError
from ..images.names import without_suffix
from ..records import UNSPLIT, ReadOptions, Record, Splits, read_names, refuse_incomplete
from .folder import read_folder

LAYOUT = """\
images/NAME.jpg  masks/NAME.jpg   (1000 pairs; beside them, if you have the authors' split, train.txt and val.txt),
or the same two folders inside train/, validation/ and test/ (validation/ and test/ may be absent)"""

_LISTS = {"train": "train.txt", "test": "val.txt"}  # the 120 images of val.txt are what publications test on


def read_kvasir(data_dir: Path, options: ReadOptions) -> tuple[Splits, list[str]]:
    """Read the official archive, or a copy already divided into split folders, which may hold any part of the set."""
    splits, problems = read_folder(data_dir, options)
    if UNSPLIT not in splits:
        return splits, problems
    records = splits[UNSPLIT]
    expected = options.counts[UNSPLIT]
    if len(records) < expected:
        problems.append(f"images has {len(records)} of {expected} files")
        if not options.skip_bad:
            raise refuse_incomplete(data_dir, problems, LAYOUT)
    if all((data_dir / name).is_file() for name in _LISTS.values()):
        return {split: _listed(records, data_dir / name) for split, name in _LISTS.items()}, problems
    return splits, problems


def _listed(records: list[Record], path: Path) -> list[Record]:
    names = set(read_names(path))
    listed = [record for record in records if without_suffix(record.image).name in names]
    if not listed:
        raise DataError(f"{path} names none of the {len(records)} images beside it")
    return listed
