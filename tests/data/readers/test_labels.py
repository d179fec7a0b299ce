"""Labels of COCO, labelme, CVAT, Label Studio and YOLO: their areas become masks of classes, or are refused by name."""

import json
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image
from pycocotools import mask as coco_mask

from topolora_hf import load_segmentation_data
from topolora_hf.data.errors import DataError
from topolora_hf.data.readers.label_files import decode_brush

HEIGHT, WIDTH = 40, 48
ARTERY, VEIN = np.zeros((2, HEIGHT, WIDTH), bool)
ARTERY[4:12, 4:30] = True
VEIN[2:38, 20:26] = True
CORNERS = {"artery": [[4, 4], [30, 4], [30, 12], [4, 12]], "vein": [[20, 2], [26, 2], [26, 38], [20, 38]]}
NUMBER = 4  # images; the last is not labelled
CATEGORIES = {"artery": 7, "vein": 3, "unsure": 9}
CLASSES = ["artery", "vein"]
SIZE = {"height": HEIGHT, "width": WIDTH}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(NUMBER):
        pixels = np.random.default_rng(number).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"images/{number}.png")
    return tmp_path


def runs(mask):
    """Lengths of runs of equal values, the first of zeros, of a mask read row by row."""
    flat = np.concatenate([[0], mask.ravel().astype(int), [-1]])
    return np.diff(np.flatnonzero(np.diff(flat) != 0), prepend=0).tolist()


def coco(areas, **more):
    """One file for all images; `areas` is a list of (category, segmentation) that each labelled image has."""
    annotations = [
        {"image_id": number, "category_id": CATEGORIES.get(label, label), "segmentation": area}
        for number in range(NUMBER - 1)
        for label, area in areas
    ]
    pictures = [{"id": number, "file_name": f"photos\\{number}.png", **SIZE} for number in range(NUMBER)]
    categories = [{"id": number, "name": name} for name, number in CATEGORIES.items()]
    return {"images": pictures, "annotations": annotations, "categories": categories} | more


def outline(label):
    return [sum(CORNERS[label], [])]


def compressed(mask):
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def coco_outlines(root):
    (root / "labels.json").write_text(json.dumps(coco([(label, outline(label)) for label in CORNERS])))


def coco_compressed(root):
    (root / "annotations").mkdir()
    areas = [("artery", compressed(ARTERY)), ("vein", compressed(VEIN))]
    (root / "annotations/instances.json").write_text(json.dumps(coco(areas)))


def coco_counts(root):
    areas = [("artery", {"size": [HEIGHT, WIDTH], "counts": runs(ARTERY.T)}), ("vein", compressed(VEIN))]
    (root / "a.json").write_text(json.dumps(coco(areas)))


def labelme(root, shapes=None, numbers=range(NUMBER - 1), size=(HEIGHT, WIDTH)):
    usual = [{"label": label, "shape_type": "polygon", "points": points} for label, points in CORNERS.items()]
    usual[0] |= {"shape_type": "rectangle", "points": [CORNERS["artery"][2], CORNERS["artery"][0]]}
    for number in numbers:
        content = {"imagePath": "x.png", "imageHeight": size[0], "imageWidth": size[1]}
        content["shapes"] = usual if shapes is None else shapes
        (root / f"images/{number}.json").write_text(json.dumps(content))


def cvat(root, extra=""):
    points = ";".join(f"{x},{y}" for x, y in CORNERS["artery"])
    box = VEIN[2:38, 18:30]
    shapes = f'<polygon label="artery" points="{points}"/><tag label="good"/>{extra}'
    shapes += f'<mask label="vein" rle="{", ".join(map(str, runs(box)))}" left="18" top="2" width="12" height="36"/>'
    head = '<image id="{0}" name="{0}.png" width="48" height="40">'
    pictures = "".join(f"{head.format(n)}{shapes * (n < NUMBER - 1)}</image>" for n in range(NUMBER))
    (root / "annotations.xml").write_text(f"<annotations><version>1.1</version>{pictures}</annotations>")


def brush(values):
    """Values 0 to 255 in thi.ng's run lengths: each run of equal ones by its own, with one literal at the start."""
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    bits += f"0{0:02b}{0:03b}{values[0]:08b}"
    edges = np.flatnonzero(np.diff(values[1:])) + 1
    for run in np.split(values[1:], edges):
        bits += f"1{3:02b}{len(run) - 1:016b}{run[0]:08b}"
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


def label_studio(root, submitted=1, **changes):
    of_image = {"original_height": HEIGHT, "original_width": WIDTH, "image_rotation": 0}
    points = [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in CORNERS["artery"]]
    rgba = np.repeat(VEIN[..., None] * np.uint8(255), 4, axis=2)
    rle = {"format": "rle", "rle": brush(rgba.ravel()), "brushlabels": ["vein"]}
    results = [
        of_image | {"type": "polygonlabels", "value": {"points": points, "polygonlabels": ["artery"]}},
        of_image | {"type": "brushlabels", "value": rle},
    ]
    results[0] |= changes
    tasks = [{"data": {"image": f"/data/upload/1/0a1b2c3d-{number}.png"}} for number in range(NUMBER)]
    for task in tasks:
        task["annotations"] = [{"result": results}] * submitted * (task is not tasks[3])
    (root / "project.json").write_text(json.dumps(tasks))


def yolo(root):
    (root / "labels").mkdir()
    lines = [np.array(points) / (WIDTH, HEIGHT) for points in CORNERS.values()]
    for number in range(NUMBER - 1):
        text = "\n".join(f"{place} {' '.join(map(str, line.ravel()))}" for place, line in enumerate(lines))
        (root / f"labels/{number}.txt").write_text(text)


TOOLS = [coco_outlines, coco_compressed, coco_counts, labelme, cvat, label_studio, yolo]


@pytest.mark.parametrize("write", TOOLS, ids=lambda write: write.__name__)
def test_labels_of_each_tool_are_maps_of_classes(write, root):
    write(root)
    classes = ["artery=0", "vein=1"] if write is yolo else CLASSES
    with pytest.raises(DataError, match=r"no mask \(1\): images/3.png. .*--missing_mask empty"):
        load_segmentation_data(str(root), classes=classes)
    data = load_segmentation_data(str(root), classes=classes, missing_mask="empty")
    assert data.labels == ("artery", "vein") and not data.exclusive
    masks = {row["id"]: row["mask"] for rows in data.values() for row in rows}
    assert all((masks[str(number)] == np.stack([ARTERY, VEIN])).all() for number in range(NUMBER - 1))
    assert masks["3"].shape == (2, HEIGHT, WIDTH) and not masks["3"].any()


def masks_by_label(root, classes):
    data = load_segmentation_data(str(root), classes=classes, missing_mask="empty")
    return next(row for rows in data.values() for row in rows if row["id"] == "0"), data


def test_labels_are_chosen_renamed_grouped_and_ignored(root):
    areas = [("artery", outline("artery")), ("vein", outline("vein")), ("unsure", [[0, 30, 10, 30, 10, 40, 0, 40]])]
    (root / "labels.json").write_text(json.dumps(coco(areas)))
    row, _ = masks_by_label(root, ["vessel=artery,vein", "ignore=unsure"])
    assert (row["mask"][0] == ARTERY | VEIN).all() and not row["valid_mask"][30:, :10].any()
    assert row["valid_mask"].sum() == HEIGHT * WIDTH - 100
    row, data = masks_by_label(root, {"V": "vein", "A": ["artery"], "background": "unsure"})
    assert data.labels == ("V", "A") and (row["mask"] == np.stack([VEIN, ARTERY])).all() and row["valid_mask"].all()


def test_labels_go_with_images_of_several_bands(root):
    coco_outlines(root)
    for number in range(NUMBER):
        pixels = np.random.default_rng(number).integers(0, 4000, (HEIGHT, WIDTH, 4)).astype(np.uint16)
        (root / f"images/{number}.png").unlink()
        tifffile.imwrite(root / f"images/{number}.tif", pixels, photometric="minisblack", planarconfig="contig")
    whole = (root / "images/1.tif").read_bytes()
    (root / "images/1.tif").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"images/1.tif: cannot be read as an image"):
        load_segmentation_data(str(root), classes=CLASSES, bands=(3, 2, 1), missing_mask="empty")
    (root / "images/1.tif").write_bytes(whole)
    data = load_segmentation_data(str(root), classes=CLASSES, bands=(3, 2, 1), missing_mask="empty")
    masks = {row["id"]: row["mask"] for rows in data.values() for row in rows}
    assert data.bands == (3, 2, 1) and (masks["0"] == np.stack([ARTERY, VEIN])).all()


def test_several_labels_without_classes_are_named_with_what_to_paste(root):
    coco_outlines(root)
    with pytest.raises(DataError, match=r"artery \(3 shapes\), vein \(3 shapes\). --classes artery vein makes each a"):
        load_segmentation_data(str(root))


def test_one_label_needs_no_classes(root):
    (root / "labels.json").write_text(json.dumps(coco([("vein", outline("vein"))])))
    row, data = masks_by_label(root, None)
    assert data.labels == ("foreground",) and (row["mask"] == VEIN[None]).all()


def test_an_empty_labelme_file_is_a_negative_and_a_missing_one_an_error(root):
    labelme(root)
    labelme(root, shapes=[], numbers=[3])
    data = load_segmentation_data(str(root), classes=CLASSES)
    assert [row["id"] for rows in data.values() for row in rows if not row["mask"].any()] == ["3"]


@pytest.mark.parametrize(
    "write, problem",
    [
        (lambda root: coco_outlines(root), r"labels that no class names: vein \(3 shapes\). Named are: artery"),
        (lambda root: dump(root, coco([(5, outline("vein"))])), r"category 5; categories are 7 \(artery\), 3 \(vein\)"),
        (lambda root: dump(root, coco([("artery", [])])), "annotation without outline"),
        (lambda root: dump(root, coco([("artery", [[1, 2, 3, 4]])])), "outline of 2 points, which has no area"),
        (lambda root: dump(root, coco([("artery", compressed(ARTERY[1:]))])), "run lengths of 39x48 pixels for an im"),
        (lambda root: dump(root, coco([("artery", [])], images=[])), "annotations of image 0, which is not among"),
        (lambda root: dump(root, coco([], categories=[{"id": 7}])), "KeyError: 'name'"),
        (lambda root: (root / "labels.json").write_text('{"images": '), "labels.json cannot be read as labels"),
        (lambda root: labelme(root, box("rectangle"), size=(20, 24)), "0.png is 48x40, its labels are drawn on 24x20"),
        (lambda root: labelme(root, box("line")), "0.json: has a shape of type 'line'"),
        (lambda root: [labelme(root), coco_outlines(root)], "0.png is labelled in .*0.json and|labels.json and 0.json"),
        (lambda root: cvat(root, '<polyline label="artery" points="1,1"/>'), "xml: has a shape of type 'polyline'"),
        (lambda root: label_studio(root, submitted=2), "project.json: has 2 annotations of 0.png; keep one"),
        (lambda root: label_studio(root, type="keypointlabels"), "result of type 'keypointlabels'"),
    ],
)  # fmt: skip
def test_wrong_labels_are_refused_with_the_file(write, problem, root):
    write(root)
    with pytest.raises(DataError, match=f"(?s){problem}"):
        load_segmentation_data(str(root), classes=["artery"], missing_mask="empty")


def box(kind):
    return [{"label": "artery", "shape_type": kind, "points": [[4, 4], [9, 9]]}]


def dump(root, content):
    (root / "labels.json").write_text(json.dumps(content))


def test_run_lengths_without_the_library_name_the_extra(root, monkeypatch):
    coco_compressed(root)
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(DataError, match=r"need pycocotools: pip install topolora_hf\[labels\]"):
        load_segmentation_data(str(root), classes=["artery", "vein"])


def test_images_of_one_name_in_two_folders_are_told_apart(root):
    for split in ("train", "test"):
        (root / "images" / split).mkdir()
        (root / "images/0.png").replace(root / f"images/{split}/0.png")
        (root / f"images/{1 + (split == 'test')}.png").replace(root / "images/0.png")
    for path in (root / "images").glob("*.png"):
        path.unlink()
    pictures = [{"id": 0, "file_name": "train/0.png", **SIZE}, {"id": 1, "file_name": "test/0.png", **SIZE}]
    drawn = [
        {"image_id": number, "category_id": CATEGORIES[label], "segmentation": outline(label)}
        for number, label in enumerate(CLASSES)
    ]
    dump(root, coco([]) | {"images": pictures, "annotations": drawn})
    data = load_segmentation_data(str(root), classes=["vessel=artery,vein"], validation_fraction=0)
    assert (data["train"][0]["mask"][0] == ARTERY).all() and (data["test"][0]["mask"][0] == VEIN).all()
    dump(root, coco([]) | {"images": [pictures[0] | {"file_name": "0.png"}], "annotations": drawn[:1]})
    with pytest.raises(DataError, match=r"labels.json: 0.png could be .*0.png or .*0.png"):
        load_segmentation_data(str(root), classes=["vessel=artery,vein"])


def test_yolo_labels_are_divided_as_the_images_are(root):
    yolo(root)
    for split, numbers in (("train", (0, 1)), ("val", (2, 3))):
        for folder, suffix in (("images", "png"), ("labels", "txt")):
            (root / folder / split).mkdir()
            for name, number in enumerate(numbers):  # 0 and 1 in both
                if (file := root / folder / f"{number}.{suffix}").is_file():
                    file.rename(root / folder / split / f"{name}.{suffix}")
    (root / "labels/val/0.txt").write_text((root / "labels/val/0.txt").read_text().splitlines()[1])
    data = load_segmentation_data(str(root), classes=["artery=0", "vein=1"], missing_mask="empty")
    assert (data["train"][0]["mask"] == np.stack([ARTERY, VEIN])).all()
    assert not data["validation"][0]["mask"][0].any() and (data["validation"][0]["mask"][1] == VEIN).all()
    assert not data["validation"][1]["mask"].any()


def test_a_task_may_tell_more_than_the_image(root):
    label_studio(root)
    tasks = json.loads((root / "project.json").read_text())
    for number, task in enumerate(tasks):
        task["data"] = {"patient": f"{3 - number}", "report": "scans/P0.png", **task["data"]}
    (root / "project.json").write_text(json.dumps(tasks))
    row, _ = masks_by_label(root, CLASSES)
    assert (row["mask"] == np.stack([ARTERY, VEIN])).all()


def test_labels_of_other_images_are_named(root):
    yolo(root)
    for number in range(NUMBER):
        (root / f"images/{number}.png").rename(root / f"images/photo{number}.png")
    (root / "README.txt").write_text("notes")
    with pytest.raises(DataError, match=r"label files name no image in .*images: labels/0.txt \(0\), lab") as error:
        load_segmentation_data(str(root), classes=["artery=0", "vein=1"])
    assert "README.txt (" not in str(error.value)


def test_brush_run_lengths_are_decoded():
    values = np.random.default_rng(0).choice([0, 255, 7], 5000).cumsum().astype(np.uint8)
    assert (decode_brush(brush(values)) == values).all()
