"""SL-SSDD: sea and land in the SAR images of SSDD."""

from dataclasses import replace
from pathlib import Path

from ..archives import find_folder
from ..errors import DataError
from ..images.names import without_suffix
from ..records import SPLIT_NAMES, ReadOptions, Splits, describe_contents, list_images, read_names, refuse_incomplete
from .listed import by_id, read_listed

LAYOUT = """\
images/000001.jpg   masks/000001.png   splits/train.txt, val.txt and test.txt (one name a line),
or as published: train/000002.png and test/000001.png are the masks (0 land, 255 sea), and the images, which are SSDD's,
lie in images/ or else beside the masks or in any other folder, under the same names: images/000001.jpg"""

_LISTS = {"train": ("train.txt",), "validation": ("val.txt", "validation.txt"), "test": ("test.txt",)}


def read_sl_ssdd(data_dir: Path, options: ReadOptions) -> tuple[Splits, list[str]]:
    """Pair masks with the images of the same name, in either layout."""
    masks_folder, lists_folder = find_folder(data_dir, "masks"), find_folder(data_dir, "splits")
    if masks_folder and lists_folder:
        masks = by_id(list_images(masks_folder), _stem)
        lists = _read_lists(lists_folder)
    else:
        folders = {split: find_folder(data_dir, *SPLIT_NAMES[split]) for split in ("train", "test")}
        if not any(folders.values()):
            raise DataError(f"{data_dir} is not SL-SSDD. Expected:\n{LAYOUT}\nFound: {describe_contents(data_dir)}")
        divided = {split: by_id(_masks(folder), _stem) for split, folder in folders.items() if folder}
        masks = {name: path for of_split in divided.values() for name, path in of_split.items()}
        lists = {split: sorted(of_split) for split, of_split in divided.items()}
    taken = set(masks.values())
    images = by_id(
        (path for path in list_images(find_folder(data_dir, "images") or data_dir) if path not in taken), _stem
    )
    fewer = {split: count for split, count in options.counts.items() if len(lists.get(split, ())) < count}
    counts = [f"{split} has {len(lists.get(split, ()))} of {count} rows" for split, count in fewer.items()]
    counts = [] if "validation" in lists else counts  # the user's own lists
    if counts and not options.skip_bad:
        raise refuse_incomplete(data_dir, counts, LAYOUT)
    splits, problems = read_listed(data_dir, {"image": images, "mask": masks}, replace(options, lists=lists), LAYOUT)
    return splits, [*counts, *problems]


def _stem(path: Path) -> str:
    return without_suffix(path).name


def _read_lists(folder: Path) -> dict[str, list[str]]:
    files = {path.name.lower(): path for path in folder.iterdir()}
    found = {split: next((files[n] for n in names if n in files), None) for split, names in _LISTS.items()}
    if found["train"] is None:
        raise DataError(f"{folder} has no train.txt. Found: {describe_contents(folder)}")
    return {split: sorted(read_names(path)) for split, path in found.items() if path}


def _masks(folder: Path) -> list[Path]:
    """The masks of a published split: its PNG files, where images of other formats may lie beside them."""
    return [path for path in list_images(folder) if path.suffix.lower() == ".png" and path.parent == folder]
