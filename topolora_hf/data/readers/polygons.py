"""Outlines drawn in a label tool (COCO JSON, labelme, YOLO text), as masks in the user's cache."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..archives import cached_folder
from ..errors import DataError
from ..images.containers import guarded, read_contents
from ..images.names import without_suffix

Shapes = list[tuple[str, np.ndarray]]  # label and (N, 2) points as (x, y) in pixels


def draw_polygons(folder: Path, images: Sequence[Path]) -> tuple[Path, list[str]] | None:
    """Draw the outlines that a label tool left in `folder`, its `annotations/` or `labels/`, or beside the images.

    Returns:
        A folder with one mask an image, under its stem: 0, and the labels' numbers from 1 in alphabetical order; and a
        sentence that says which label is which. None if there is no such file.

    Raises:
        DataError: A file is broken, or has shapes that are not polygons.
    """
    by_stem = {without_suffix(image).name: image for image in images}
    places = [folder, folder / "annotations", folder / "labels", *dict.fromkeys(image.parent for image in images)]
    files = dict.fromkeys(path for place in places for path in [*place.glob("*.json"), *place.glob("*.txt")])
    files = [path for path in sorted(files) if path.suffix == ".json" or path.stem in by_stem]
    shapes = {image: found for path in files for image, found in guarded(lambda p: list(_read(p, by_stem)), path)}
    if not shapes:
        return None
    labels = sorted({label for found in shapes.values() for label, _ in found})

    def draw(folder: Path) -> None:
        from skimage.draw import polygon

        for image, found in shapes.items():
            mask = np.zeros(read_contents(image).values.shape[:2], np.uint8)
            for label, points in found:
                inside = polygon(points[:, 1] - 0.5, points[:, 0] - 0.5, mask.shape)  # centres of pixels
                mask[inside] = labels.index(label) + 1
            Image.fromarray(mask).save(folder / f"{without_suffix(image).name}.png")

    key = [(path, path.stat().st_mtime_ns) for path in files]
    names = ", ".join(f"{label} is {number}" for number, label in enumerate(labels, start=1))
    return cached_folder("polygons", folder.name, key, draw), [
        f"masks are drawn from the outlines in {len(files)} files: {names or 'no outline'}"
    ]


def _read(path: Path, by_stem: dict[str, Path]) -> Iterator[tuple[Path, Shapes]]:
    """The images that a file describes, and their outlines."""
    if path.suffix == ".txt":
        rows = [line.split() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        height, width = read_contents(by_stem[path.stem]).values.shape[:2]
        if any(len(row) < 7 or len(row) % 2 == 0 for row in rows):
            raise DataError("has lines that are no YOLO polygon (class and x y pairs of 0 to 1)")
        scaled = [(row[0], np.array(row[1:], float).reshape(-1, 2) * (width, height)) for row in rows]
        yield by_stem[path.stem], scaled
        return
    content = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(content, dict):
        return
    if "shapes" in content:
        name = without_suffix(Path(str(content.get("imagePath") or path.name).replace("\\", "/"))).name
        found = [(shape["label"], _outline(shape)) for shape in content["shapes"]]
        if image := by_stem.get(name) or by_stem.get(path.stem):
            yield image, found
    elif {"images", "annotations", "categories"} <= content.keys():
        label_of = {each["id"]: str(each["name"]) for each in content["categories"]}
        annotations = defaultdict(list)
        for each in content["annotations"]:
            annotations[each["image_id"]].append(each)
        for picture in content["images"]:
            image = by_stem.get(without_suffix(Path(picture["file_name"].replace("\\", "/"))).name)
            shapes = []
            for each in annotations[picture["id"]]:
                if not isinstance(each["segmentation"], list):
                    raise DataError("has masks in run lengths (RLE), which are not read; export polygons or PNG masks")
                outlines = [np.array(points, float).reshape(-1, 2) for points in each["segmentation"]]
                shapes += [(label_of[each["category_id"]], points) for points in outlines]
            if image:
                yield image, shapes


def _outline(shape: dict) -> np.ndarray:
    points, kind = np.array(shape["points"], float), shape.get("shape_type", "polygon")
    if kind == "rectangle":
        (left, top), (right, bottom) = points
        return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    if kind != "polygon":
        raise DataError(f"has a shape of type {kind!r}; polygons and rectangles are read")
    return points
