"""A user's own folder: `images/` and `masks/`, with or without split folders above them."""

import logging
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from .errors import DataError
from .records import (
    UNSPLIT,
    Record,
    Splits,
    describe_contents,
    find_folder,
    list_images,
    name_rows,
)

logger = logging.getLogger(__name__)

LAYOUT = """\
images/NAME.jpg  masks/NAME.png   (or masks/NAME_mask.png; any image format), or the same two folders inside
train/, validation/ and test/ (validation/ and test/ may be absent)"""

_SPLIT_NAMES = {"train": ("train", "training"), "validation": ("validation", "valid", "val"), "test": ("test",)}
_MASK_SUFFIX = re.compile(
    r"[-_. ]?(masks?|labels?|gt|ground[-_]?truth|seg|segmentation|annotation|manual\d?)$", re.IGNORECASE
)


def read_folder(data_dir: Path, counts: Mapping[str, int], allow_partial: bool) -> tuple[Splits, list[str]]:
    """Pairs `images/` with `masks/` by file stem, in `data_dir` itself or in its split folders.

    Args:
        data_dir: The user's folder.
        counts: Not used: nobody knows how many rows a user's folder should have.
        allow_partial: Not used, for the same reason.

    Returns:
        The splits found, or all rows under `UNSPLIT`, and no complaints. A row without a mask has `mask=None`.

    Raises:
        DataError: The layout is another one, a folder is empty, or an image has several masks.
    """
    splits = {
        split: folder
        for split, names in _SPLIT_NAMES.items()
        if (folder := find_folder(data_dir, *names)) and find_folder(folder, "images")
    }
    if find_folder(data_dir, "images"):
        if splits:
            raise DataError(f"{data_dir} has both images/ and {', '.join(splits)}/images/; keep one of the two layouts")
        return {UNSPLIT: pair_folder(data_dir)}, []
    if not splits:
        raise DataError(
            f"{data_dir} is not a folder of images and masks. Expected:\n{LAYOUT}\nFound: {describe_contents(data_dir)}"
        )
    return {split: pair_folder(folder) for split, folder in splits.items()}, []


def pair_folder(folder: Path) -> list[Record]:
    """The rows of one `images/` + `masks/` pair of folders, sorted by image name.

    Raises:
        DataError: A folder is missing or holds no image, or an image has several masks.
    """
    images_folder, masks_folder = find_folder(folder, "images"), find_folder(folder, "masks")
    if images_folder is None or masks_folder is None:
        absent = "images/" if images_folder is None else "masks/"
        raise DataError(f"{folder} has no {absent}. Expected:\n{LAYOUT}\nFound: {describe_contents(folder)}")
    images, masks = list_images(images_folder), list_images(masks_folder)
    for files, subfolder in ((images, images_folder), (masks, masks_folder)):
        if not files:
            raise DataError(f"{subfolder} holds no image file. Found: {describe_contents(subfolder)}")
    return _pair(images, images_folder, masks, masks_folder)


def _pair(images: list[Path], images_folder: Path, masks: list[Path], masks_folder: Path) -> list[Record]:
    by_stem, by_bare_stem = defaultdict(list), defaultdict(list)
    for mask in masks:
        stem = mask.relative_to(masks_folder).with_suffix("").as_posix()
        by_stem[stem].append(mask)
        by_bare_stem[_MASK_SUFFIX.sub("", stem)].append(mask)
    records, clashes, unused = [], [], set(masks)
    for row_id, image in zip(name_rows(images, images_folder), images, strict=True):
        stem = image.relative_to(images_folder).with_suffix("").as_posix()
        candidates = by_stem.get(stem) or by_bare_stem.get(stem, [])
        unused.difference_update(candidates)
        if len(candidates) > 1:
            clashes.append(f"{image.name}: {', '.join(mask.name for mask in candidates)}")
        records.append(Record(row_id, image, candidates[0] if candidates else None))
    if clashes:
        raise DataError(f"{masks_folder} has several masks for one image; keep one of them:\n  " + "\n  ".join(clashes))
    if unused:
        names = ", ".join(sorted(mask.name for mask in unused))
        logger.warning("%s: %d masks belong to no image: %s", masks_folder, len(unused), names)
    return records
