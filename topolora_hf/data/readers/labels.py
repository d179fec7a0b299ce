"""What was drawn in a label tool (COCO JSON, labelme, CVAT, Label Studio, YOLO text), as masks in the user's cache."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from ..archives import cached_folder
from ..classes import Classes
from ..errors import DataError
from ..images.containers import guarded, read_contents
from ..images.names import name_in, without_suffix
from ..records import name_rows, some, wrong_layout
from .label_files import SUFFIXES, Drawing, read_label_file

_ANY_BAND = (1,)  # of an image of which only the size is needed, whatever its bands are


@dataclass(frozen=True)
class DrawnLabels:
    """The masks of each image that was labelled: one, or one a class and perhaps one of what is ignored."""

    masks: Mapping[Path, tuple[Path, ...]]
    sentences: list[str]


def draw_labels(folder: Path, root: Path, images: Sequence[Path], classes: Classes | None) -> DrawnLabels | None:
    """Draw what a label tool left in `folder`, its `annotations/` or `labels/`, or beside the images.

    A file in `labels/train/` describes an image in `train/` of `root`, the folder of the images. Without `classes` all
    labels must have one name. With them, each label is of the class that names it.

    Returns:
        None if there is no such file.

    Raises:
        DataError: A file is broken, describes an image of another size or one that another file describes, has shapes
            without an area, or labels that no class names; or the files describe no image that is there.
    """
    find = _Finder(images, root, folder / "labels")
    drawings, files = _read_all(folder, find)
    if not drawings and find.missed:
        missed = some([f"{name_in(path, folder)} ({name})" for path, name in find.missed.items()])
        raise wrong_layout(f"{folder} has no masks/, and its label files name no image in {root}: {missed}", folder)
    if not drawings:
        return None
    counts = Counter(shape.label for drawing in drawings.values() for shape in drawing.shapes)
    group_of = _groups(counts, classes, files)
    groups = max(len(classes.names) if classes else 1, *(number + 1 for number in group_of.values()), 1)
    ids = dict(zip(drawings, name_rows(list(drawings), folder), strict=True))

    def draw(target: Path) -> None:
        for image, drawing in drawings.items():
            shape = guarded(lambda path: read_contents(path, _ANY_BAND).values.shape[:2], image)
            if drawing.size and drawing.size != shape:
                sizes = "is {1}x{0}, its labels are drawn on {3}x{2}".format(*shape, *drawing.size)
                raise DataError(f"{image.name} {sizes} pixels (in {drawing.file.name})")
            masks = np.zeros((groups, *shape), bool)
            for each in drawing.shapes:
                if (group := group_of[each.label]) >= 0:
                    each.draw(masks[group])
            for number, mask in enumerate(masks):
                path = target / str(number) / f"{ids[image]}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(path)

    key = [groups, group_of, [(path, path.stat().st_mtime_ns) for path in files], list(ids.items())]
    place = cached_folder("labels", folder.name, key, draw)
    masks = {image: tuple(place / str(n) / f"{row_id}.png" for n in range(groups)) for image, row_id in ids.items()}
    names = ", ".join(f"{label} ({count})" for label, count in counts.most_common())
    sentence = f"masks are drawn from the outlines in {len(files)} files: {names or 'no outline'}"
    return DrawnLabels(masks, [sentence])


def _read_all(folder: Path, find: "_Finder") -> tuple[dict[Path, Drawing], list[Path]]:
    """What was drawn on each image, and in which files."""
    places = [folder, folder / "annotations", find.labels, *find.places]
    paths = dict.fromkeys(path for place in places for suffix in SUFFIXES for path in place.glob(f"*{suffix}"))
    drawings: dict[Path, Drawing] = {}
    for path in sorted(paths):
        for image, drawing in read_label_file(path, find):
            if image in drawings:
                names = " and ".join(name_in(each, folder) for each in (drawings[image].file, path))
                raise DataError(f"{image.name} is labelled in {names}; keep one of them")
            drawings[image] = drawing
    return drawings, list(dict.fromkeys(drawing.file for drawing in drawings.values()))


class _Finder:
    """Finds the image that a label file means by a name, or by its own name.

    Attributes:
        labels: the folder of labels, which may be divided as that of the images is.
        places: where else labels may lie: beside the images, and in that part of `labels`.
        missed: label files and a name in each of which there is no image.
    """

    def __init__(self, images: Sequence[Path], root: Path, labels: Path):
        self.labels, self.missed = labels, {}
        self._by_stem: dict[str, list[Path]] = {}
        self._place_of = {image.parent: labels / image.parent.relative_to(root) for image in images}
        self.places = [*self._place_of, *self._place_of.values()]
        for image in images:
            self._by_stem.setdefault(without_suffix(image).name, []).append(image)

    def __call__(self, name: str, file: Path) -> Path | None:
        path = PurePosixPath(name.replace("\\", "/"))
        found = self._by_stem.get(without_suffix(Path(path)).name, [])
        if self.labels in file.parents[1:]:
            found = [image for image in found if self._place_of[image.parent] == file.parent]
        if len(found) > 1:
            found = [image for image in found if image.as_posix().endswith(f"/{path}")] or found
        if len(found) > 1:
            found = [image for image in found if image.parent == file.parent] or found
        if len(found) > 1:
            raise DataError(f"{file}: {name} could be {' or '.join(map(str, found[:3]))}")
        if not found and (file.suffix != ".txt" or self.labels in file.parents):  # others are notes
            self.missed.setdefault(file, name)
        return found[0] if found else None


def _groups(counts: Mapping[str, int], classes: Classes | None, files: Sequence[Path]) -> dict[str, int]:
    """The number of the map of each label; one past the last for what is ignored, -1 for background."""
    shown = some([f"{label} ({count} shapes)" for label, count in counts.items()], 12)
    if classes is None:
        if len(counts) > 1:
            names = " ".join(f'"{label}"' if " " in label else label for label in counts)
            joined = "foreground=" + ",".join(counts)
            raise DataError(
                f"{some([path.name for path in files])} label several things: {shown}. --classes {names} makes each a "
                f'class; --classes "{joined}" makes one of all; "background=NAME" leaves some out'
            )
        return dict.fromkeys(counts, 0)
    numbered = [(each, number) for number, each in enumerate(classes.classes)]
    others = ((classes.ignore, len(classes.names)), (classes.background, -1))
    numbered += [(each, number) for each, number in others if each.values]
    group_of = {label: number for each, number in numbered for label in each.labels}
    if unknown := [f"{label} ({count} shapes)" for label, count in counts.items() if label not in group_of]:
        raise DataError(
            f"{some([path.name for path in files])} have labels that no class names: {some(unknown, 8)}. Named are: "
            f'{", ".join(group_of)}. "NAME=LABEL" in --classes gives one a class, "background=LABEL" leaves it out'
        )
    uses = Counter(label for each, _ in numbered for label in set(each.labels))
    if several := [label for label, count in uses.items() if count > 1]:
        raise DataError(f"--classes: label {several[0]} is of two classes; give it to one of them")
    return {label: group_of[label] for label in counts}
