"""STARE's twenty images with vessels, as its authors distribute them: compressed PPM files."""

from pathlib import Path

from ..records import ReadOptions, Splits
from .listed import numbered, read_listed, require_folders

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

_MASKS = {1: "labels-ah", 2: "labels-vk"}


def read_stare(data_dir: Path, options: ReadOptions) -> tuple[Splits, list[str]]:
    """Pair images and vessels by their number."""
    folders = require_folders(data_dir, ("stare-images", _MASKS[options.annotator]), "STARE", LAYOUT)
    images, masks = (numbered(folder, r"im(\d+)", "im{:04d}") for folder in folders)
    return read_listed(data_dir, {"image": images, "mask": masks}, options, LAYOUT)
