"""STARE's twenty images with vessels, as its authors distribute them: compressed PPM files."""

import re
from pathlib import Path

from ..archives import find_folder
from ..errors import DataError
from ..records import (
    ReadOptions,
    Splits,
    describe_contents,
    list_images,
)
from .listed import by_unique_id, read_listed

LAYOUT = """\
stare-images/im0001.ppm.gz   labels-ah/im0001.ah.ppm.gz   labels-vk/im0001.vk.ppm.gz   (20 images; the vessels as
Adam Hoover and Valentina Kouznetsova saw them; the folders may still be archives, such as stare-images.tar)"""

_NUMBERS = (1, 2, 3, 4, 5, 44, 77, 81, 82, 139, 162, 163, 235, 236, 239, 240, 255, 291, 319, 324)
_IDS = tuple(f"im{number:04d}" for number in _NUMBERS)

# "idiap" is the split of the published baselines (Laibacher and Anjos, 2019, arXiv:1909.03856).
SPLIT_LISTS = {
    "default": {"train": _IDS[:16], "test": _IDS[16:]},
    "idiap": {"train": _IDS[:10], "test": _IDS[10:]},
}

_ANNOTATORS = {1: "labels-ah", 2: "labels-vk"}
_NUMBER = re.compile(r"im(\d+)", re.IGNORECASE)


def read_stare(data_dir: Path, options: ReadOptions) -> tuple[Splits, list[str]]:
    """Pairs images and vessels by their number.

    Args:
        data_dir: The folder that holds `stare-images` and `labels-ah`.
        options: The split's lists, the annotator (1: `labels-ah`, 2: `labels-vk`), and whether rows may be missing.

    Returns:
        The splits, and what is missing.

    Raises:
        DataError: A folder is not there, or rows are missing and that is not allowed.
    """
    folders = [find_folder(data_dir, name) for name in ("stare-images", _ANNOTATORS[options.annotator])]
    if None in folders:
        raise DataError(f"{data_dir} is not STARE. Expected:\n{LAYOUT}\nFound: {describe_contents(data_dir)}")
    images, masks = (
        by_unique_id([(f"im{int(m[1]):04d}", path) for path in list_images(folder) if (m := _NUMBER.match(path.name))])
        for folder in folders
    )
    return read_listed(data_dir, images, masks, options, LAYOUT)
