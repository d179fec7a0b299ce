"""A file or a folder a class: which files are whose masks."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..archives import find_folder
from ..classes import Classes, MaskClass
from ..errors import DataError
from ..images.names import name_in
from ..records import EMPTY, Masks, list_images, some, wrong_layout
from .pairing import files_named, pair_by_name


@dataclass(frozen=True)
class ClassFiles:
    """The masks of one class: all files of a folder, or those of it that a pattern names."""

    root: Path
    files: Sequence[Path]
    pattern: str | re.Pattern | None = None


def find_class_files(
    folder: Path, images_folder: Path, masks_folder: Path | None, classes: Classes
) -> dict[str, ClassFiles] | None:
    """Find the masks of each class by its folder, its pattern, or its name: masks/vein/, vein/ or NAME_vein.png.

    Returns:
        Files by the name of the class, and of "ignore" and "background" if files are named for these; None if no class
        has any.

    Raises:
        DataError: A class has none while others have, or the folder of masks holds some that no class names.
    """
    if classes.by_value:
        return None
    places = [place for place in (masks_folder, folder, images_folder) if place]
    asked = [*classes.classes, *(each for each in (classes.ignore, classes.background) if each.place)]
    found = {each.name: _files_of(each, places) for each in asked}
    if not any(found.values()) and not any(each.place for each in asked):
        return None
    if missing := [each for each in asked if found[each.name] is None]:
        usual = "no folder {0}/ and no file NAME_{0}.png"
        tried = "; ".join(f"{each.name}: {each.place or usual.format(each.name)}" for each in missing)
        raise wrong_layout(f"{folder} has no masks of {len(missing)} of {len(asked)} classes ({tried})", places[0])
    places_of = Counter((each.root, each.pattern) for each in found.values())
    if twice := [name for name, each in found.items() if places_of[each.root, each.pattern] > 1]:
        raise DataError(f"--classes: {' and '.join(twice)} have the same files, in {found[twice[0]].root}")
    taken = {path for each in found.values() for path in each.files}
    others = list_images(masks_folder) if masks_folder and masks_folder != images_folder else []
    if others := [name_in(path, masks_folder) for path in others if path not in taken]:
        beside = f"{masks_folder} has {len(others)} masks that no class names: {some(others)}"
        raise DataError(f'{beside}. Name their class in --classes, or leave them out by "background=FOLDER/"')
    return found


def _files_of(each: MaskClass, places: Sequence[Path]) -> ClassFiles | None:
    """The files of one class; `places` has the folder of masks, if there is one, the data set's and that of images."""
    if each.values and not each.place:  # names of labels
        return None
    inner, _, pattern = (each.place or "").rpartition("/")  # "vein/", "{stem}_v.png" or "vein/{stem}_v.png"
    if each.place and inner:
        roots = [place / inner for place in places if (place / inner).is_dir()][:1]
    elif each.place:
        roots = [places[0], places[-1]]
    else:
        of_name = (find_folder(place, each.name.lower()) for place in places)
        if root := next((path for path in of_name if path), None):
            return ClassFiles(root, list_images(root))
        roots, pattern = [places[0], places[-1]], _ending(each.name)
    for root in roots:
        files = list_images(root)
        if files := files_named(files, pattern) if pattern else files:
            return ClassFiles(root, files, pattern or None)
    return None


def _ending(name: str) -> re.Pattern:
    """NAME_vein.png, NAME-vein.png, NAME.vein.tif"""
    return re.compile(rf"(?P<stem>.+)[-_. ]{re.escape(name)}\.\w+(\.gz)?", re.IGNORECASE)


def pair_classes(
    by_stem: Mapping[str, Path], found: Mapping[str, ClassFiles], classes: Classes, sentences: list[str]
) -> dict[str, tuple[Masks, ...]]:
    """The masks of each class, and perhaps of what is ignored, by the stem of their image; None where there is none.

    Raises:
        DataError: No mask of a class has the name of an image.
    """
    of_class = []
    for name in (*classes.names, *(["ignore"] if "ignore" in found else [])):
        files = found[name]
        masks, unused = pair_by_name(by_stem, files.files, files.root, files.pattern)
        if not masks and files.pattern is None:  # vein/NAME_vein.png
            masks, unused = pair_by_name(by_stem, files.files, files.root, _ending(name))
        if not masks and files.files:
            image = next(iter(by_stem.values())).name
            how = f'"{name}={files.root.name}/{{stem}}_mask.png" in --classes says how masks are named'
            raise DataError(
                f"no mask of class {name} in {files.root} ({files.files[0].name}, ...) has the name of an image "
                f"({image}, ...); {how}"
            )
        if unused:
            names = some(sorted(mask.name for mask in unused))
            sentences.append(f"{len(unused)} masks of class {name} belong to no image: {names}")
        of_class.append({stem: masks.get(stem, EMPTY if name == "ignore" else None) for stem in by_stem})
    return {stem: tuple(masks[stem] for masks in of_class) for stem in by_stem}
