"""CHASE_DB1 as its authors distribute it: all files in one folder."""

import re
from pathlib import Path

from ..errors import DataError
from ..records import (
    ReadOptions,
    Splits,
    describe_contents,
    list_images,
)
from .listed import by_unique_id, read_listed

LAYOUT = """\
Image_01L.jpg   Image_01L_1stHO.png   Image_01L_2ndHO.png   ... to Image_14R   (28 images in one folder, the vessels
as the first and the second annotator saw them)"""

_IDS = tuple(f"Image_{child:02d}{eye}" for child in range(1, 15) for eye in "LR")

# "idiap" is the split of the published baselines (Laibacher and Anjos, 2019, arXiv:1909.03856).
SPLIT_LISTS = {
    "default": {"train": _IDS[:20], "test": _IDS[20:]},
    "idiap": {"train": _IDS[20:], "test": _IDS[:20]},
}

_NAME = re.compile(r"(Image_\d\d[LR])(?:_(1st|2nd)HO)?", re.IGNORECASE)
_ANNOTATORS = {1: "1st", 2: "2nd"}


def read_chase_db1(data_dir: Path, options: ReadOptions) -> tuple[Splits, list[str]]:
    """Pairs images and vessels by name.

    Args:
        data_dir: The folder that holds the files.
        options: The split's lists, the annotator, and whether rows may be missing.

    Returns:
        The splits, and what is missing.

    Raises:
        DataError: No file is named like CHASE_DB1's, or rows are missing and that is not allowed.
    """
    named = [(match, path) for path in list_images(data_dir) if (match := _NAME.fullmatch(path.stem))]
    if not named:
        raise DataError(f"{data_dir} is not CHASE_DB1. Expected:\n{LAYOUT}\nFound: {describe_contents(data_dir)}")
    annotator = _ANNOTATORS[options.annotator]
    images = by_unique_id([(_official(match[1]), path) for match, path in named if match[2] is None])
    masks = by_unique_id(
        [(_official(match[1]), path) for match, path in named if (match[2] or "").lower() == annotator]
    )
    return read_listed(data_dir, images, masks, options, LAYOUT)


def _official(name: str) -> str:
    return f"Image_{name[-3:].upper()}"
