"""A user's own folder: images and masks in two folders or one, with or without split folders above or below them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..archives import find_folder
from ..errors import DataError
from ..images.names import is_image_file
from ..records import (
    SPLIT_NAMES,
    SPLIT_OF_NAME,
    UNSPLIT,
    Layout,
    Masks,
    ReadOptions,
    Record,
    Splits,
    list_images,
    name_rows,
    some,
    wrong_layout,
)
from .class_files import find_class_files, pair_classes
from .labels import draw_labels
from .pairing import Found, explain_names, image_stems, masks_among, pair_by_name
from .table import FOLDER_TABLE_SUFFIXES, read_table
from .vectors import burn_vectors, vector_file

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
_MOST_CLASSES = 12  # folders that are suggested as such
_VIEW_FOLDERS = ("fov", "fovs", "field_of_view", "valid_masks", "valid_mask")


def read_folder(data_dir: Path, options: ReadOptions) -> tuple[Splits, list[str]]:
    """Pair images with masks by file name, in `data_dir` itself or in its split folders; a row may have no mask."""
    layout, of_files = options.layout, options.classes is not None and not options.classes.by_value
    sentences: list[str] = []
    folders = {split: find_folder(data_dir, *names) for split, names in SPLIT_NAMES.items()}
    folders = {
        split: folder for split, folder in folders.items() if folder and _images_folder(folder, layout, of_files)
    }
    if root := _images_folder(data_dir, layout, of_files):
        if folders and layout.image_dir is None:
            both = f"images/ and {', '.join(folders)}/images/"
            raise DataError(f"{data_dir} has both {both}; keep one of the two layouts")
        return _divide_by_subfolder(_pair_folder(data_dir, options, sentences), root), sentences
    if folders:
        return {split: _pair_folder(folder, options, sentences) for split, folder in folders.items()}, sentences
    tables = [path for path in sorted(data_dir.iterdir()) if path.suffix.lower() in FOLDER_TABLE_SUFFIXES]
    if len(tables) == 1:
        return read_table(tables[0], options)
    if records := _one_folder_an_image(data_dir):
        return {UNSPLIT: records}, [f"each of {len(records)} folders is an image, whose masks are united"]
    raise wrong_layout(f"{data_dir} is not a folder of images and masks", data_dir, LAYOUT)


@dataclass(frozen=True)
class _Places:
    """The folders of a data set, or of one of its splits."""

    root: Path
    images: Path
    masks: Path | None  # `images` itself, if they lie there
    views: Path | None


def _pair_folder(folder: Path, options: ReadOptions, sentences: list[str]) -> list[Record]:
    """The rows of one folder of images and one of masks, sorted by image name; `sentences` gets what is to be told."""
    layout, classes = options.layout, options.classes
    places = _places(folder, layout, classes is not None and not classes.by_value, sentences)
    found = find_class_files(folder, places.images, places.masks, classes) if classes else None
    images, masks = list_images(places.images), list_images(places.masks) if places.masks else []
    if not images:
        raise wrong_layout(f"{places.images} holds no image file", places.images)
    if found is not None:
        taken = {path for each in found.values() for path in each.files}
        images = [path for path in images if path not in taken]
    if places.masks == places.images:
        images, masks = _separate(images, places.images, layout)
    else:  # masks may lie below the images, as in photos beside masks/
        inner = [place for place in (places.masks, places.views) if place and places.images in place.parents]
        images = [path for path in images if not any(place in path.parents for place in inner)]
    by_stem = image_stems(images, places.images, layout.image_pattern)
    if not by_stem:
        raise DataError(f"{places.images} holds no image named like image_pattern {layout.image_pattern!r}")
    mask_of: dict[str, Masks] = {}
    of_classes: dict[str, tuple[Masks, ...]] = {}
    if found is not None:
        of_classes = pair_classes(by_stem, found, classes, sentences)
    elif vectors := vector_file(folder, layout):
        if classes is not None and not classes.is_one_name:
            raise DataError(f"{vectors} gives one class; masks of several are images, or outlines of a label tool")
        burnt, sentence = burn_vectors(vectors, list(by_stem.values()), layout)
        mask_of = {stem: burnt[image] for stem, image in by_stem.items()}
        sentences.append(sentence)
    elif not masks and layout.mask_dir is None and (drawn := draw_labels(folder, places.images, images, classes)):
        sentences += drawn.sentences
        if classes is None:
            mask_of = {stem: drawn.masks.get(image, (None,))[0] for stem, image in by_stem.items()}
        else:
            nothing = (None,) * len(classes.names)
            of_classes = {stem: drawn.masks.get(image, nothing) for stem, image in by_stem.items()}
    else:
        mask_of = _pair(by_stem, masks, places, layout, sentences)
    view_of = _fields_of_view(by_stem, places, layout, sentences)
    ids = name_rows(list(by_stem.values()), places.images)
    return [
        Record(row_id, image, mask_of.get(stem), view_of.get(stem), of_classes.get(stem, ()))
        for row_id, (stem, image) in zip(ids, by_stem.items(), strict=True)
    ]


def _fields_of_view(
    by_stem: Mapping[str, Path], places: _Places, layout: Layout, sentences: list[str]
) -> dict[str, Path]:
    """The fields of view by the stem of their image."""
    folder = places.views
    if folder is None:
        if layout.valid_mask_pattern is None:
            return {}
        if places.masks != places.images:
            pattern = f"valid_mask_pattern {layout.valid_mask_pattern!r}"
            problem = f"{places.root} has no folder of fields of view for {pattern}"
            raise wrong_layout(f"{problem}; --layout valid_mask_dir=NAME says which", places.root)
        folder = places.images
    found, _ = pair_by_name(by_stem, list_images(folder), folder, layout.valid_mask_pattern)
    view_of = {stem: view for stem, view in found.items() if isinstance(view, Path)}
    if missing := [image.name for stem, image in by_stem.items() if stem not in view_of]:
        sentences.append(f"{folder.name}/ has no field of view for {len(missing)} images: {some(missing)}")
    return view_of


def _pair(
    by_stem: Mapping[str, Path], masks: Sequence[Path], places: _Places, layout: Layout, sentences: list[str]
) -> dict[str, Found]:
    """The masks by the stem of their image."""
    folder = places.masks
    if folder is None:
        raise wrong_layout(f"{places.root} has no masks/", places.root, LAYOUT)
    if not masks and folder != places.images:
        raise wrong_layout(f"{folder} holds no image file", folder)
    mask_of, unused = pair_by_name(by_stem, masks, folder, layout.mask_pattern)
    without = [image for stem, image in by_stem.items() if stem not in mask_of]
    differs = explain_names(without[0], unused, places.images, folder) if without else ""
    if not mask_of:
        inner = dict.fromkeys(mask.relative_to(folder).parts[0] for mask in masks if mask.parent != folder)
        is_few = 0 < len(inner) <= _MOST_CLASSES
        raise DataError(
            f"no mask in {folder} has the name of an image in {places.images}"
            + f" by mask_pattern {layout.mask_pattern!r}" * bool(layout.mask_pattern)
            + f" ({len(masks)} masks, {len(without)} images): {differs or 'there is no mask'}"
            + f". If each folder is a class: --classes {' '.join(inner)}" * is_few
        )
    if unused and folder != places.images:
        names = f"{len(unused)} masks belong to no image: {some(sorted(mask.name for mask in unused))}"
        sentences.append(f"{names}. {differs}" if differs else names)
    several = [f"{by_stem[stem].name} ({len(of_one)})" for stem, of_one in mask_of.items() if isinstance(of_one, tuple)]
    if several:
        sentences.append(f"{len(several)} images have several masks, which are united: {some(several)}")
    return mask_of


def _one_folder_an_image(data_dir: Path) -> list[Record]:
    """Folders that each hold one image in images/ and a mask an object in masks/, as in DSB2018."""
    records = []
    for child in sorted(path for path in data_dir.iterdir() if path.is_dir()):
        images_folder, masks_folder = find_folder(child, "images", "image"), find_folder(child, "masks", "mask")
        images = list_images(images_folder) if images_folder else []
        if len(images) != 1 or masks_folder is None:
            return []
        records.append(Record(child.name, images[0], tuple(list_images(masks_folder)) or None))
    return records


def _images_folder(folder: Path, layout: Layout, of_files: bool) -> Path | None:
    """The folder of the images; `folder` itself where masks lie among them, or where classes may have files there."""
    if layout.image_dir is not None:
        given = folder / layout.image_dir
        return given if given.is_dir() else None
    if named := find_folder(folder, *_IMAGE_FOLDERS):
        return named
    files = [path for path in folder.iterdir() if is_image_file(path) and not path.name.startswith(".")]
    if layout.mask_dir is not None or layout.mask_pattern is not None or of_files:
        return folder if files else None
    has_labels = any(path.suffix in (".json", ".xml") for path in folder.iterdir())
    return folder if _separate(files, folder, layout)[1] or (files and has_labels) else None


def _places(folder: Path, layout: Layout, of_files: bool, sentences: list[str]) -> _Places:
    """Find the folders that `layout` names, or those with usual names."""
    images = _images_folder(folder, layout, of_files)
    view = _given(folder, layout.valid_mask_dir, "valid_mask_dir") or find_folder(folder, *_VIEW_FOLDERS)
    if layout.mask_dir is not None:
        given = None if vector_file(folder, layout) else _given(folder, layout.mask_dir, "mask_dir")
        return _Places(folder, images, given, view)
    target, masks = (find_folder(folder, *names) for names in (_TARGET_FOLDERS, _MASK_FOLDERS))
    if target and not list_images(target):
        target = None
    if target and masks and view is None:
        sentences.append(
            f"{target.name}/ is taken as the masks and {masks.name}/ as the field of view; mask_dir and valid_mask_dir "
            "say otherwise"
        )
        return _Places(folder, images, target, masks)
    return _Places(folder, images, masks or target or (images if images == folder else None), view)


def _given(folder: Path, name: str | None, option: str) -> Path | None:
    if name is None:
        return None
    if not (folder / name).is_dir():
        raise wrong_layout(f"{option} {name!r}: {folder} has no such folder", folder)
    return folder / name


def _separate(files: Sequence[Path], root: Path, layout: Layout) -> tuple[list[Path], list[Path]]:
    """Images and masks that lie in one folder."""
    if layout.image_pattern is not None:
        images = set(image_stems(files, root, layout.image_pattern).values())
        return sorted(images), [path for path in files if path not in images]
    masks = masks_among(files)
    if layout.mask_pattern is not None:
        found, _ = pair_by_name(image_stems(files, root), files, root, layout.mask_pattern)
        masks |= {mask for each in found.values() for mask in (each if isinstance(each, tuple) else (each,))}
    return [path for path in files if path not in masks], sorted(masks)


def _divide_by_subfolder(records: list[Record], root: Path) -> Splits:
    """`images/train/...` beside `masks/train/...` is divided, too."""
    splits: Splits = {}
    for record in records:
        first = record.image.relative_to(root).parts[0].lower()
        splits.setdefault(SPLIT_OF_NAME.get(first, UNSPLIT), []).append(record)
    if UNSPLIT in splits and len(splits) > 1:
        beside = ", ".join(sorted({record.image.relative_to(root).parts[0] for record in splits[UNSPLIT]})[:5])
        raise DataError(f"{root} has folders of splits and images beside them ({beside}): which split are those in?")
    return splits
