"""A user's own folder: images and masks in two folders or one, with or without split folders above or below them."""

import logging
from collections.abc import Sequence
from pathlib import Path

from ..archives import find_folder
from ..errors import DataError
from ..images.names import is_image_file
from ..records import (
    SPLIT_NAMES,
    SPLIT_OF_NAME,
    UNSPLIT,
    Layout,
    ReadOptions,
    Record,
    Splits,
    describe_contents,
    list_images,
    name_rows,
)
from .pairing import image_stems, masks_among, pair_by_name
from .table import TABLE_SUFFIXES, read_table

logger = logging.getLogger(__name__)

LAYOUT = """\
images/NAME.jpg  masks/NAME.png   (or masks/NAME_mask.png; any image format), or the same two folders inside
train/, validation/ and test/ (validation/ and test/ may be absent), or NAME.jpg and NAME_mask.png in one folder,
or a table of files (CSV or JSONL with the columns image, mask and, if you like, valid_mask, split, id).
Other names: --layout image_dir=photos mask_dir=gt "mask_pattern={stem}_gt.png\""""

_IMAGE_FOLDERS = ("images", "image", "imgs", "img", "input", "inputs", "photos", "jpegimages", "originals", "original")
_IMAGE_FOLDERS += ("sat", "rgb")
# Where one of these lies beside `masks` or `mask`, as in HRF and IOSTAR, it holds the target, they the field of view.
_TARGET_FOLDERS = ("1st_manual", "manual1", "manual", "gt", "gts", "ground_truth", "groundtruth", "ground-truth")
_TARGET_FOLDERS += ("ground truth",)
_TARGET_FOLDERS += ("labels", "label", "annotations", "annotation", "segmentations", "segmentation", "seg", "targets")
_TARGET_FOLDERS += ("target", "vessel-segmentations", "vessel_segmentations", "vessels", "vessel", "map", "maps")
_MASK_FOLDERS = ("masks", "mask")
_VIEW_FOLDERS = ("fov", "fovs", "field_of_view", "valid_masks", "valid_mask")


def read_folder(data_dir: Path, options: ReadOptions) -> tuple[Splits, list[str]]:
    """Pair images with masks by file name, in `data_dir` itself or in its split folders; a row may have no mask."""
    layout = options.layout
    if _has_images(data_dir, layout):
        divided = [split for split, folder in _split_folders(data_dir).items() if _has_images(folder, layout)]
        if divided and layout.image_dir is None:
            raise DataError(
                f"{data_dir} has both images/ and {', '.join(divided)}/images/; keep one of the two layouts"
            )
        return _divide_by_subfolder(pair_folder(data_dir, layout), data_dir, layout), []
    splits = {split: folder for split, folder in _split_folders(data_dir).items() if _has_images(folder, layout)}
    if splits:
        return {split: pair_folder(folder, layout) for split, folder in splits.items()}, []
    tables = [path for path in sorted(data_dir.iterdir()) if path.suffix.lower() in TABLE_SUFFIXES]
    if len(tables) == 1:
        return read_table(tables[0], options)
    raise DataError(
        f"{data_dir} is not a folder of images and masks. Expected:\n{LAYOUT}\nFound: {describe_contents(data_dir)}"
    )


def pair_folder(folder: Path, layout: Layout) -> list[Record]:
    """The rows of one folder of images and one of masks, sorted by image name."""
    images_folder = _images_folder(folder, layout)
    masks_folder, views_folder = _mask_folders(folder, layout, images_folder)
    if images_folder is None or masks_folder is None:
        absent = "images/" if images_folder is None else "masks/"
        raise DataError(f"{folder} has no {absent}. Expected:\n{LAYOUT}\nFound: {describe_contents(folder)}")
    if views_folder is None and layout.valid_mask_pattern is not None:
        if masks_folder != images_folder:
            raise DataError(
                f"{folder} has no folder of fields of view for valid_mask_pattern {layout.valid_mask_pattern!r}; "
                f"--layout valid_mask_dir=NAME says which. Found: {describe_contents(folder)}"
            )
        views_folder = images_folder
    images, masks = list_images(images_folder), list_images(masks_folder)
    for files, subfolder in ((images, images_folder), (masks, masks_folder)):
        if not files:
            raise DataError(f"{subfolder} holds no image file. Found: {describe_contents(subfolder)}")
    if masks_folder == images_folder:
        images, masks = _separate(images, images_folder, layout)
    else:
        images = _outside(images, images_folder, masks_folder, views_folder)
    by_stem = image_stems(images, images_folder, layout.image_pattern)
    if not by_stem:
        raise DataError(f"{images_folder} holds no image named like image_pattern {layout.image_pattern!r}")
    mask_of, unused = pair_by_name(by_stem, masks, masks_folder, layout.mask_pattern)
    if not mask_of:
        examples = f"image {next(iter(by_stem.values())).name}, mask {masks[0].name if masks else '(none)'}"
        raise DataError(
            f"no mask in {masks_folder} has the name of an image in {images_folder} ({examples}); "
            '--layout "mask_pattern={stem}_mask.png" says how they are named'
        )
    if unused and masks_folder != images_folder:
        names = ", ".join(sorted(mask.name for mask in unused))
        logger.warning("%s: %d masks belong to no image: %s", masks_folder, len(unused), names)
    view_of = _views(by_stem, views_folder, layout)
    ids = name_rows(list(by_stem.values()), images_folder)
    return [
        Record(row_id, image, mask_of.get(stem), view_of.get(stem))
        for row_id, (stem, image) in zip(ids, by_stem.items(), strict=True)
    ]


def _split_folders(data_dir: Path) -> dict[str, Path]:
    found = {split: find_folder(data_dir, *names) for split, names in SPLIT_NAMES.items()}
    return {split: folder for split, folder in found.items() if folder}


def _has_images(folder: Path, layout: Layout) -> bool:
    return _images_folder(folder, layout) is not None


def _images_folder(folder: Path, layout: Layout) -> Path | None:
    """The folder of the images; `folder` itself where masks lie among them."""
    if layout.image_dir is not None:
        given = folder / layout.image_dir
        return given if given.is_dir() else None
    named = find_folder(folder, *_IMAGE_FOLDERS)
    if named:
        return named
    files = [path for path in folder.iterdir() if is_image_file(path) and not path.name.startswith(".")]
    if layout.mask_dir is not None or layout.mask_pattern is not None:
        return folder if files else None
    return folder if _separate(files, folder, layout)[1] else None


def _mask_folders(folder: Path, layout: Layout, images_folder: Path | None) -> tuple[Path | None, Path | None]:
    """The folders of the masks and of the fields of view."""
    view = _given(folder, layout.valid_mask_dir, "valid_mask_dir") or find_folder(folder, *_VIEW_FOLDERS)
    if layout.mask_dir is not None:
        return _given(folder, layout.mask_dir, "mask_dir"), view
    target, masks = (find_folder(folder, *names) for names in (_TARGET_FOLDERS, _MASK_FOLDERS))
    if target and not list_images(target):
        target = None
    if target and masks and view is None:
        logger.warning(
            "%s: %s/ is taken as the masks and %s/ as the field of view; mask_dir and valid_mask_dir say otherwise",
            folder, target.name, masks.name,
        )  # fmt: skip
        return target, masks
    return masks or target or (images_folder if images_folder == folder else None), view


def _given(folder: Path, name: str | None, option: str) -> Path | None:
    if name is None:
        return None
    if not (folder / name).is_dir():
        raise DataError(f"{option} {name!r}: {folder} has no such folder. Found: {describe_contents(folder)}")
    return folder / name


def _separate(files: Sequence[Path], root: Path, layout: Layout) -> tuple[list[Path], list[Path]]:
    """Images and masks that lie in one folder."""
    if layout.image_pattern is not None:
        images = set(image_stems(files, root, layout.image_pattern).values())
        return sorted(images), [path for path in files if path not in images]
    masks = masks_among(files)
    if layout.mask_pattern is not None:
        masks |= set(pair_by_name(image_stems(files, root), files, root, layout.mask_pattern)[0].values())
    return [path for path in files if path not in masks], sorted(masks)


def _outside(images: Sequence[Path], images_folder: Path, *folders: Path | None) -> list[Path]:
    """The images without those in folders of masks that lie within theirs, as in photos beside masks/."""
    inner = [folder for folder in folders if folder and images_folder in folder.parents]
    return [path for path in images if not any(folder in path.parents for folder in inner)]


def _views(by_stem: dict[str, Path], folder: Path | None, layout: Layout) -> dict[str, Path]:
    if folder is None:
        return {}
    view_of, _ = pair_by_name(by_stem, list_images(folder), folder, layout.valid_mask_pattern)
    missing = [path.name for stem, path in by_stem.items() if stem not in view_of]
    if missing:
        logger.warning("%s has no field of view for %d images: %s", folder, len(missing), ", ".join(missing))
    return view_of


def _divide_by_subfolder(records: list[Record], data_dir: Path, layout: Layout) -> Splits:
    """`images/train/...` beside `masks/train/...` is divided, too."""
    root = _images_folder(data_dir, layout)
    splits: Splits = {}
    for record in records:
        first = record.image.relative_to(root).parts[0].lower()
        splits.setdefault(SPLIT_OF_NAME.get(first, UNSPLIT), []).append(record)
    if UNSPLIT in splits and len(splits) > 1:
        beside = ", ".join(sorted({record.image.relative_to(root).parts[0] for record in splits[UNSPLIT]})[:5])
        raise DataError(f"{root} has folders of splits and images beside them ({beside}): which split are those in?")
    return splits
