"""Data sets as their authors distribute them: DRIVE, STARE, CHASE_DB1, HRF, SL-SSDD and Kvasir-SEG."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..archives import find_folder
from ..errors import DataError
from ..images.names import without_suffix
from ..records import (
    SPLIT_NAMES,
    SPLIT_OF_NAME,
    UNSPLIT,
    ReadOptions,
    Record,
    Splits,
    incomplete,
    list_images,
    read_names,
    wrong_layout,
)
from .folder import read_folder

DRIVE = """\
training/images/21_training.tif   training/1st_manual/21_manual1.gif   training/mask/21_training_mask.gif
test/images/01_test.tif           test/1st_manual/01_manual1.gif       test/mask/01_test_mask.gif
(`mask` is the field of view, `1st_manual` the vessels; files of one row share their leading number; a second
annotator, test/2nd_manual/01_manual2.gif, saw the test images only; the challenge's archive keeps those of the test
images back: skip_bad does without)"""
DRIVE_AV = """\
DRIVE/ as it is distributed, and beside it DRIVE_AV/training/1st_manual/21_training.png, DRIVE_AV/test/1st_manual/...;
or DRIVE with the labels of arteries and veins inside it, as in RITE: training/av/21_training.png, test/av/01_test.png
(0 background, 1 artery, 2 vein, 3 crossing or uncertain; or red, blue, green and white)"""
HRF = """\
images/01_dr.jpg   manual1/01_dr.tif   mask/01_dr_mask.tif   AVmanual/01_dr_AVmanual.png
(45 images: 01 to 15 of h, dr and g; `mask` is the field of view, `manual1` the vessels; AVmanual is needed for hrf_av
alone: 0 background, 1 artery, 2 vein, 3 crossing or uncertain)"""
STARE = """\
stare-images/im0001.ppm.gz   labels-ah/im0001.ah.ppm.gz   labels-vk/im0001.vk.ppm.gz   (20 images; the vessels as
Adam Hoover and Valentina Kouznetsova saw them; the folders may still be archives, such as stare-images.tar)"""
CHASE_DB1 = """\
Image_01L.jpg   Image_01L_1stHO.png   Image_01L_2ndHO.png   ... to Image_14R   (28 images in one folder, the vessels
as the first and the second annotator saw them)"""
SL_SSDD = """\
images/000001.jpg   masks/000001.png   splits/train.txt, val.txt and test.txt (one name a line),
or as published: train/000002.png and test/000001.png are the masks (0 land, 255 sea), and the images, which are SSDD's,
lie in images/ or else beside the masks or in any other folder, under the same names: images/000001.jpg"""
KVASIR = """\
images/NAME.jpg  masks/NAME.jpg   (1000 pairs; beside them, if you have the authors' split, train.txt and val.txt),
or the same two folders inside train/, validation/ and test/ (validation/ and test/ may be absent)"""

_DRIVE_NUMBERS = {"train": range(21, 41), "test": range(1, 21)}
_STARE_NUMBERS = (1, 2, 3, 4, 5, 44, 77, 81, 82, 139, 162, 163, 235, 236, 239, 240, 255, 291, 319, 324)
_STARE_IDS = tuple(f"im{number:04d}" for number in _STARE_NUMBERS)
_CHASE_IDS = tuple(f"Image_{child:02d}{eye}" for child in range(1, 15) for eye in "LR")
# "idiap" is the split of the published baselines (Laibacher and Anjos, 2019, arXiv:1909.03856).
STARE_SPLITS = {
    "default": {"train": _STARE_IDS[:16], "test": _STARE_IDS[16:]},
    "idiap": {"train": _STARE_IDS[:10], "test": _STARE_IDS[10:]},
}
CHASE_DB1_SPLITS = {
    "default": {"train": _CHASE_IDS[:20], "test": _CHASE_IDS[20:]},
    "idiap": {"train": _CHASE_IDS[20:], "test": _CHASE_IDS[:20]},
}
_HRF_IDS = {part: [f"{n:02d}_{kind}" for kind in ("h", "dr", "g") for n in numbers] for part, numbers in (
    ("train", range(1, 6)), ("test", range(6, 16)))}  # fmt: skip
HRF_SPLITS = {"default": _HRF_IDS}  # the first five of each kind, as Orlando et al. 2017 (IEEE TBME 64)
_KVASIR_LISTS = {"train": "train.txt", "test": "val.txt"}  # publications test on the 120 images of val.txt


def read_drive(data_dir: Path, options: ReadOptions) -> tuple[Splits, list[str]]:
    """Pair image, vessels and field of view by their leading number."""
    masks = {1: "1st_manual", 2: "2nd_manual"}[options.annotator]
    places = {"image": (data_dir, "images"), "mask": (data_dir, masks), "field of view": (data_dir, "mask")}
    files, lists = _drive_files(places, ("train", "test") if options.annotator == 1 else ("test",))
    return _rows_of_lists(data_dir, "DRIVE", DRIVE, files, replace(options, lists=lists))


def read_drive_av(data_dir: Path, options: ReadOptions) -> tuple[Splits, list[str]]:
    """Pair DRIVE's images and fields of view with labels of arteries and veins, by their leading number."""
    drive, av = find_folder(data_dir, "drive") or data_dir, find_folder(data_dir, "drive_av")
    labels = (av, "1st_manual") if av else (drive, "av")
    places = {"image": (drive, "images"), "mask": labels, "field of view": (drive, "mask")}
    files, lists = _drive_files(places, ("train", "test"))
    if not files["field of view"]:  # RITE has none
        del files["field of view"]
    return _rows_of_lists(data_dir, "DRIVE with arteries and veins", DRIVE_AV, files, replace(options, lists=lists))


def _drive_files(
    places: Mapping[str, tuple[Path, str]], splits: Sequence[str]
) -> tuple[dict[str, dict[str, Path]], dict[str, list[str]]]:
    """The files of each kind by id, and the ids of each split; `places` are folders inside training/ and test/."""
    files, lists = {kind: {} for kind in places}, {}
    for split in splits:
        folder = {"train": "training", "test": "test"}[split]
        lists[split] = [f"{number:02d}_{folder}" for number in _DRIVE_NUMBERS[split]]
        for kind, (root, name) in places.items():
            files[kind] |= _find(root, (folder, name), r"\d+", lambda found, part=folder: f"{int(found[0]):02d}_{part}")
    return files, lists


def read_hrf(data_dir: Path, options: ReadOptions, masks: str = "manual1") -> tuple[Splits, list[str]]:
    """Pair images, vessels and fields of view by the number and the kind that their names begin with."""
    pattern, folders = r"\d\d_(h|dr|g)(?![a-z])", {"image": "images", "mask": masks, "field of view": "mask"}
    files = {kind: _find(data_dir, (name,), pattern, lambda found: found[0].lower()) for kind, name in folders.items()}
    return _rows_of_lists(data_dir, "HRF", HRF, files, options)


def read_hrf_av(data_dir: Path, options: ReadOptions) -> tuple[Splits, list[str]]:
    """The same with arteries and veins."""
    return read_hrf(data_dir, options, "avmanual")


def read_stare(data_dir: Path, options: ReadOptions) -> tuple[Splits, list[str]]:
    """Pair images and vessels by their number."""
    folders = {"image": "stare-images", "mask": {1: "labels-ah", 2: "labels-vk"}[options.annotator]}
    files = {
        kind: _find(data_dir, (name,), r"im(\d+)", lambda found: f"im{int(found[1]):04d}")
        for kind, name in folders.items()
    }
    return _rows_of_lists(data_dir, "STARE", STARE, files, options)


def read_chase_db1(data_dir: Path, options: ReadOptions) -> tuple[Splits, list[str]]:
    """Pair images and vessels by name, in one folder."""
    endings = {"image": "", "mask": {1: "_1stHO", 2: "_2ndHO"}[options.annotator]}
    files = {
        kind: _find(data_dir, (), rf"Image_(\d\d[LR]){end}\.", lambda found: f"Image_{found[1].upper()}")
        for kind, end in endings.items()
    }
    return _rows_of_lists(data_dir, "CHASE_DB1", CHASE_DB1, files, options)


def read_sl_ssdd(data_dir: Path, options: ReadOptions) -> tuple[Splits, list[str]]:
    """Pair masks with the images of the same name: in masks/ with lists, or in train/ and test/ as published."""
    masks_folder, lists_folder = find_folder(data_dir, "masks"), find_folder(data_dir, "splits")
    if masks_folder and lists_folder:
        masks = _by_stem(list_images(masks_folder))
        texts = {path.stem.lower(): path for path in lists_folder.iterdir() if path.suffix.lower() == ".txt"}
        lists = {SPLIT_OF_NAME[name]: sorted(read_names(texts[name])) for name in SPLIT_OF_NAME if name in texts}
        if "train" not in lists:
            raise wrong_layout(f"{lists_folder} has no train.txt", lists_folder)
    else:
        divided = {
            split: _by_stem(
                path for path in list_images(folder) if (path.parent, path.suffix.lower()) == (folder, ".png")
            )
            for split in ("train", "test")
            if (folder := find_folder(data_dir, *SPLIT_NAMES[split]))
        }
        if not divided:
            raise wrong_layout(f"{data_dir} is not SL-SSDD", data_dir, SL_SSDD)
        masks = {name: path for of_split in divided.values() for name, path in of_split.items()}
        lists = {split: sorted(of_split) for split, of_split in divided.items()}
    images = list_images(find_folder(data_dir, "images") or data_dir)
    taken = set(masks.values())
    files = {"image": _by_stem(path for path in images if path not in taken), "mask": masks}
    shortcomings = []
    if "validation" not in lists:  # else they are the user's own
        found = {split: (len(lists.get(split, ())), count) for split, count in options.counts.items()}
        shortcomings = [f"{split} has {n} of {count} rows" for split, (n, count) in found.items() if n < count]
    if shortcomings and not options.skip_bad:
        raise incomplete(data_dir, shortcomings, SL_SSDD)
    splits, problems = _rows_of_lists(data_dir, "SL-SSDD", SL_SSDD, files, replace(options, lists=lists))
    return splits, [*shortcomings, *problems]


def read_kvasir(data_dir: Path, options: ReadOptions) -> tuple[Splits, list[str]]:
    """Read the official archive, or a copy already divided into split folders, which may hold any part of the set."""
    splits, problems = read_folder(data_dir, options)
    if UNSPLIT not in splits:
        return splits, problems
    records, expected = splits[UNSPLIT], options.counts[UNSPLIT]
    if len(records) < expected:
        problems.append(f"images has {len(records)} of {expected} files")
        if not options.skip_bad:
            raise incomplete(data_dir, problems, KVASIR)
    if all((data_dir / name).is_file() for name in _KVASIR_LISTS.values()):
        names = {split: set(read_names(data_dir / name)) for split, name in _KVASIR_LISTS.items()}
        splits = {split: [row for row in records if without_suffix(row.image).name in names[split]] for split in names}
        for split, rows in splits.items():
            if not rows:
                raise DataError(f"{data_dir / _KVASIR_LISTS[split]} names none of the {len(records)} images beside it")
    return splits, problems


def _find(data_dir: Path, folders: tuple[str, ...], pattern: str, row_id: Callable[[re.Match], str]) -> dict[str, Path]:
    """The images in a sub-folder whose names begin with a pattern, by the id that `row_id` makes of what it finds."""
    place: Path | None = data_dir
    for name in folders:
        place = place and find_folder(place, name)
    matches = {path: re.match(pattern, path.name, re.IGNORECASE) for path in (list_images(place) if place else ())}
    return _by_id((row_id(found), path) for path, found in matches.items() if found)


def _by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    return _by_id((without_suffix(path).name, path) for path in paths)


def _by_id(paths: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for row_id, path in paths:
        if found.setdefault(row_id, path) is not path:
            raise DataError(f"{found[row_id]} and {path} are the same row; keep one of them")
    return found


def _rows_of_lists(
    data_dir: Path, title: str, layout: str, files: Mapping[str, Mapping[str, Path]], options: ReadOptions
) -> tuple[Splits, list[str]]:
    """The rows of each split's list; `files` has the paths by id of each kind that a row needs."""
    if not any(files.values()):
        raise wrong_layout(f"{data_dir} is not {title}", data_dir, layout)
    splits: Splits = {}
    missing = []
    for split, ids in options.lists.items():
        for row_id in ids:
            absent = [kind for kind, paths in files.items() if row_id not in paths]
            if absent:
                missing.append(f"{row_id} ({' and '.join(absent)})")
            else:
                splits.setdefault(split, []).append(Record(row_id, *(paths[row_id] for paths in files.values())))
    expected = sum(map(len, options.lists.values()))
    problems = [f"{expected - len(missing)} of {expected} rows (missing: {', '.join(missing)})"] if missing else []
    if problems and not (options.skip_bad and splits):
        raise incomplete(data_dir, problems, layout)
    return splits, problems
