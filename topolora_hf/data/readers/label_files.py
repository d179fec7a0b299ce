"""The files of label tools: which image each describes, and the shapes drawn on it."""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from ..errors import DataError
from ..images.names import is_image_file

SUFFIXES = (".json", ".xml", ".txt")
Find = Callable[[str, Path], Path | None]  # the image that a file means by a name


@dataclass(frozen=True)
class Shape:
    """A labelled area."""

    label: str
    draw: Callable[[np.ndarray], None]  # sets its pixels in a bool (H, W) mask


@dataclass(frozen=True)
class Drawing:
    """All that one file draws on an image."""

    file: Path
    size: tuple[int, int] | None  # height and width of the image, as the file has them
    shapes: list[Shape]


def read_label_file(path: Path, find: Find) -> Iterator[tuple[Path, Drawing]]:
    """The images that a file of a label tool describes, of those that `find` finds; of other files none.

    Raises:
        DataError: The file is broken, or a shape has no area.
    """
    try:
        for image, size, shapes in _read(path, find):
            yield image, Drawing(path, size, shapes)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, ElementTree.ParseError) as error:
        raise DataError(f"{path} cannot be read as labels ({type(error).__name__}: {error})") from error


def _read(path: Path, find: Find) -> Iterator[tuple[Path, tuple[int, int] | None, list[Shape]]]:
    if path.suffix == ".txt":
        if image := find(path.stem, path):
            yield image, None, _yolo(path.read_text(encoding="utf-8-sig"))
        return
    if path.suffix == ".xml":
        root = ElementTree.parse(path).getroot()
        found = _cvat(root) if root.tag == "annotations" and root.find("image") is not None else ()
    else:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        found = ()
        if isinstance(content, Mapping) and "shapes" in content:
            found = _labelme(content, path, find)
        elif isinstance(content, Mapping) and {"images", "annotations", "categories"} <= content.keys():
            found = _coco(content)
        elif isinstance(content, list) and all(isinstance(task, Mapping) and "annotations" in task for task in content):
            found = _label_studio(content, path, find)
    for name, size, shapes in found:
        if image := find(name, path):
            yield image, size, shapes


def _yolo(text: str) -> list[Shape]:
    rows = [line.split() for line in text.splitlines() if line.strip()]
    if any(len(row) < 7 or len(row) % 2 == 0 for row in rows):
        raise DataError("has lines that are no YOLO polygon (class and x y pairs of 0 to 1)")
    return [Shape(row[0], _polygon(np.array(row[1:], float).reshape(-1, 2), is_share=True)) for row in rows]


def _labelme(content: Mapping, path: Path, find: Find) -> Iterator:
    name = str(content.get("imagePath") or path.name)
    height, width = content.get("imageHeight"), content.get("imageWidth")
    shapes = [_labelme_shape(shape) for shape in content["shapes"]]
    yield name if find(name, path) else path.name, (height, width) if height and width else None, shapes


def _labelme_shape(shape: Mapping) -> Shape:
    points, kind = np.array(shape["points"], float), shape.get("shape_type", "polygon")
    if kind == "rectangle":
        return Shape(str(shape["label"]), _rectangle(*points.min(axis=0), *points.max(axis=0)))
    if kind != "polygon":
        raise DataError(f"has a shape of type {kind!r}; polygons and rectangles are read")
    return Shape(str(shape["label"]), _polygon(points))


def _coco(content: Mapping) -> Iterator:
    """Images without any annotation are left out: nobody may have looked at them."""
    label_of = {each["id"]: str(each["name"]) for each in content["categories"]}
    annotations = defaultdict(list)
    for each in content["annotations"]:
        if each["category_id"] not in label_of:
            known = ", ".join(f"{number} ({name})" for number, name in label_of.items())
            raise DataError(f"has an annotation of category {each['category_id']}; categories are {known}")
        annotations[each["image_id"]].append(each)
    if unknown := annotations.keys() - {picture["id"] for picture in content["images"]}:
        raise DataError(f"has annotations of image {min(unknown, key=str)}, which is not among its images")
    for picture in content["images"]:
        if of_picture := annotations[picture["id"]]:
            size = (picture["height"], picture["width"]) if {"height", "width"} <= picture.keys() else None
            shapes = [
                Shape(label_of[each["category_id"]], area)
                for each in of_picture
                for area in _coco_areas(each["segmentation"], size)
            ]
            yield picture["file_name"], size, shapes


def _coco_areas(segmentation: Sequence | Mapping, size: tuple[int, int] | None) -> list[Callable]:
    if isinstance(segmentation, list):
        if not segmentation:
            raise DataError("has an annotation without outline (a box alone)")
        return [_polygon(np.array(points, float).reshape(-1, 2)) for points in segmentation]
    if size is not None and tuple(segmentation["size"]) != size:
        raise DataError("has run lengths of {}x{} pixels for an image of {}x{}".format(*segmentation["size"], *size))
    try:
        from pycocotools import mask
    except ImportError as error:
        raise DataError("has run lengths (RLE), which need pycocotools: pip install topolora_hf[labels]") from error
    counts = segmentation["counts"]
    rle = mask.frPyObjects(segmentation, *segmentation["size"]) if isinstance(counts, list) else segmentation
    return [lambda canvas: np.logical_or(canvas, mask.decode(rle), out=canvas)]


def _cvat(root: ElementTree.Element) -> Iterator:
    """CVAT for images 1.1. An image without shapes is left out, as in COCO: all images of a task are exported."""
    for picture in root.iter("image"):
        shapes = [_cvat_shape(each) for each in picture if each.tag != "tag"]
        if shapes:
            yield picture.attrib["name"], (int(picture.attrib["height"]), int(picture.attrib["width"])), shapes


def _cvat_shape(each: ElementTree.Element) -> Shape:
    said = each.attrib
    if each.tag == "polygon":
        points = np.array([pair.split(",") for pair in said["points"].split(";")], float)
        return Shape(said["label"], _polygon(points))
    if each.tag == "box":
        return Shape(said["label"], _rectangle(*(float(said[side]) for side in ("xtl", "ytl", "xbr", "ybr"))))
    if each.tag == "mask":
        left, top, width, height = (int(said[side]) for side in ("left", "top", "width", "height"))
        counts = np.array(said["rle"].split(","), int)
        pixels = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(height, width)

        def draw(canvas: np.ndarray) -> None:
            canvas[top : top + height, left : left + width] |= pixels

        return Shape(said["label"], draw)
    raise DataError(f"has a shape of type {each.tag!r}; polygons, boxes and masks are read")


def _label_studio(content: Sequence[Mapping], path: Path, find: Find) -> Iterator:
    """Label Studio's JSON. A task that nobody submitted is left out; an empty submission says that nothing is there."""
    for task in content:
        submitted = [each for each in task["annotations"] if not each.get("was_cancelled")]
        texts = [_uploaded_name(value) for value in task["data"].values() if isinstance(value, str)]
        texts = [text for text in texts if is_image_file(text)] or texts[:1]  # a task may tell of the patient, too
        name = next((text for text in texts if find(text, path)), texts[0] if texts else "")
        if len(submitted) > 1:
            raise DataError(f"has {len(submitted)} annotations of {name}; keep one of them")
        for each in submitted:
            results = [result for result in each["result"] if result["type"] != "choices"]
            sizes = {(result["original_height"], result["original_width"]) for result in results}
            if len(sizes) > 1:
                raise DataError(f"has several sizes of {name}")
            yield name, next(iter(sizes), None), [_label_studio_shape(result) for result in results]


def _uploaded_name(text: str) -> str:
    """The file's name in a path or an address, without what Label Studio puts before it."""
    return re.sub(r"^[0-9a-f]{8}-", "", text.split("?")[0].replace("\\", "/").rpartition("/")[2])


def _label_studio_shape(result: Mapping) -> Shape:
    kind, value = result["type"], result["value"]
    height, width = result["original_height"], result["original_width"]
    if kind not in ("polygonlabels", "brushlabels", "rectanglelabels"):
        raise DataError(f"has a result of type {kind!r}; polygonlabels, rectanglelabels and brushlabels are read")
    if result.get("image_rotation") or len(value[kind]) != 1:
        raise DataError("has an image that is turned, or a shape without one label")
    (label,) = value[kind]
    if kind == "brushlabels":
        pixels = decode_brush(value["rle"]).reshape(height, width, 4)[..., 3] > 0
        return Shape(label, lambda canvas: np.logical_or(canvas, pixels, out=canvas))
    scale = np.array([width, height]) / 100
    if kind == "polygonlabels":
        return Shape(label, _polygon(np.array(value["points"], float) * scale))
    if value.get("rotation"):
        raise DataError("has a rotated rectangle; polygons are read")
    start = np.array([value["x"], value["y"]])
    return Shape(label, _rectangle(*(start * scale), *((start + [value["width"], value["height"]]) * scale)))


def decode_brush(content: Sequence[int]) -> np.ndarray:
    """The values of Label Studio's run lengths (uint8 (N,)), which are those of thi.ng/rle-pack.

    A count of 32 bits, a word size and four run sizes, then runs (1, size, length, value) or literals (0, size, ...).
    """
    bits = "".join(f"{byte:08b}" for byte in content)
    at = 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    total, word = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    parts, done = [], 0
    while done < total:
        is_run, length = take(1), take(sizes[take(2)]) + 1
        parts.append(np.full(length, take(word)) if is_run else np.array([take(word) for _ in range(length)]))
        done += length
    return np.concatenate(parts).astype(np.uint8)


def _polygon(points: np.ndarray, is_share: bool = False) -> Callable[[np.ndarray], None]:
    """Draw an outline of (x, y) in pixels, where whole numbers are corners, or in shares of the image's sides."""
    if len(points) < 3:
        raise DataError(f"has an outline of {len(points)} points, which has no area")

    def draw(canvas: np.ndarray) -> None:
        from skimage.draw import polygon

        x, y = (points * canvas.shape[::-1] if is_share else points).T - 0.5  # whole numbers are now centres
        canvas[polygon(y, x, canvas.shape)] = True

    return draw


def _rectangle(left: float, top: float, right: float, bottom: float) -> Callable[[np.ndarray], None]:
    return _polygon(np.array([(left, top), (right, top), (right, bottom), (left, bottom)]))
