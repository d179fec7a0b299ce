"""CHASE_DB1 as its authors distribute it: all files in one folder."""

import re
from pathlib import Path

from ..errors import DataError
from ..records import ReadOptions, Splits, describe_contents, list_images
from .listed import by_id, read_listed

LAYOUT = """\
Image_01L.jpg   Image_01L_1stHO.png   Image_01L_2ndHO.png   ... to Image_14R   (28 images in one folder, the vessels
as the first and the second annotator saw them)"""

_IDS = tuple(f"Image_{child:02d}{eye}" for child in range(1, 15) for eye in "LR")

# "idiap" is the split of the published baselines (Laibacher and Anjos, 2019, arXiv:1909.03856).
SPLIT_LISTS = {
    "default": {"train": _IDS[:20], "test": _IDS[20:]},
    "idiap": {"train": _IDS[20:], "test": _IDS[:20]},
}

_NAME = re.compile(r"Image_(\d\d[LR])(?:_(1st|2nd)HO)?", re.IGNORECASE)
_ENDINGS = {1: "1st", 2: "2nd"}


def read_chase_db1(data_dir: Path, options: ReadOptions) -> tuple[Splits, list[str]]:
    """Pair images and vessels by name."""
    named = {path: match for path in list_images(data_dir) if (match := _NAME.fullmatch(path.stem))}
    if not named:
        raise DataError(f"{data_dir} is not CHASE_DB1. Expected:\n{LAYOUT}\nFound: {describe_contents(data_dir)}")

    def ending_with(ending: str) -> dict[str, Path]:
        paths = [path for path, match in named.items() if (match[2] or "").lower() == ending]
        return by_id(paths, lambda path: f"Image_{named[path][1].upper()}")

    files = {"image": ending_with(""), "mask": ending_with(_ENDINGS[options.annotator])}
    return read_listed(data_dir, files, options, LAYOUT)
