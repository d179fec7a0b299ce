"""Kvasir-SEG: a folder of images and masks whose published split is a list of names."""

from collections.abc import Mapping
from pathlib import Path

from .errors import DataError
from .folder import read_folder
from .records import UNSPLIT, Record, Splits

LAYOUT = """\
images/NAME.jpg  masks/NAME.jpg   (1000 pairs; beside them, if you have the authors' split, train.txt and val.txt),
or the same two folders inside train/, validation/ and test/ (validation/ and test/ may be absent)"""

_LISTS = {"train": "train.txt", "test": "val.txt"}  # the 120 images of val.txt are what publications test on


def read_kvasir(data_dir: Path, counts: Mapping[str, int], allow_partial: bool) -> tuple[Splits, list[str]]:
    """Reads the official archive, or a copy already divided into split folders.

    Args:
        data_dir: The folder that holds `images` and `masks`, or the split folders.
        counts: `{"all": 1000}`, asked of the official layout only: a divided copy may hold any part of the set.
        allow_partial: Take what is there of an incomplete archive.

    Returns:
        The splits, or all rows under `UNSPLIT` when no list divides them, and how the archive is incomplete, if it is.

    Raises:
        DataError: The layout is another one, or the archive is incomplete and `allow_partial` is False.
    """
    splits, _ = read_folder(data_dir, counts, allow_partial)
    if UNSPLIT not in splits:
        return splits, []
    records = splits[UNSPLIT]
    problems = []
    if len(records) < counts[UNSPLIT]:
        problems.append(f"images has {len(records)} of {counts[UNSPLIT]} files")
        if not allow_partial:
            raise DataError(
                f"{data_dir} is incomplete: {problems[0]}. allow_partial (--allow_partial) takes what is there."
            )
    if all((data_dir / name).is_file() for name in _LISTS.values()):
        return {split: _listed(records, data_dir / name) for split, name in _LISTS.items()}, problems
    return splits, problems


def _listed(records: list[Record], path: Path) -> list[Record]:
    names = {Path(line.strip()).stem for line in path.read_text().splitlines() if line.strip()}
    listed = [record for record in records if record.image.stem in names]
    if not listed:
        raise DataError(f"{path} names none of the {len(records)} images beside it")
    return listed
