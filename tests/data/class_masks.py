"""Two small classes that cross, and folders of their masks."""

import numpy as np
from datasets import Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image

from topolora_hf import load_segmentation_data

SIZE = (24, 20)
ARTERY, VEIN = np.zeros((2, *SIZE), bool)
ARTERY[5:8, 2:18] = True
VEIN[2:20, 9:12] = True  # they cross
BOTH = ARTERY & VEIN
INDEX = np.where(BOTH, 3, np.where(ARTERY, 1, np.where(VEIN, 2, 0))).astype(np.uint8)
FLAT = np.where(ARTERY, 1, np.where(VEIN, 2, 0)).astype(np.uint8)  # the artery lies above
LOWER = VEIN & ~ARTERY
RED, BLUE, GREEN = (255, 0, 0), (0, 0, 255), (0, 255, 0)
COLOURS = np.array([(0, 0, 0), RED, BLUE, GREEN], np.uint8)
NUMBER = 4  # images


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(array, np.ndarray):
        array = Image.fromarray(array * np.uint8(255) if array.dtype == bool else array)
    array.save(path)
    return path


def noise(seed):
    return np.random.default_rng(seed).integers(0, 255, (*SIZE, 3), np.uint8)


def images(root, pattern="images/{}.png"):
    for number in range(NUMBER):
        save(root / pattern.format(number), noise(number))
    return root


def with_masks(root, mask, pattern="masks/{}.png"):
    for number in range(NUMBER):
        save(root / pattern.format(number), mask)
    return root


def with_class_files(root, artery="masks/artery/{}.png", vein="masks/vein/{}.png"):
    return with_masks(with_masks(root, ARTERY, artery), VEIN, vein)


def palette(array, colours=COLOURS):
    picture = Image.fromarray(array)
    picture.putpalette(colours.ravel().tolist())
    return picture


def masks_of(dataset, classes, **options):
    """The data set, and a row's maps; every row has the same."""
    data = load_segmentation_data(str(dataset), classes=classes, **options)
    rows = [row for rows in data.values() for row in rows]
    assert len(rows) == NUMBER and all((row["mask"] == rows[0]["mask"]).all() for row in rows)
    assert rows[0]["mask"].dtype == np.uint8 and set(np.unique(rows[0]["mask"])) <= {0, 1}
    return data, rows[0]["mask"], rows[0]["valid_mask"]


def classes_file(folder, text, name="classes.yaml"):
    (folder / name).write_text(text)
    return str(folder / name)


def columns(root, **of):
    images(root / "files")
    rows = {"image": [str(root / f"files/images/{n}.png") for n in range(NUMBER)]}
    rows |= {name: [str(save(root / f"files/{name}.png", mask))] * NUMBER for name, mask in of.items()}
    features = Features(dict.fromkeys(rows, ImageFeature()))
    Dataset.from_dict(rows, features=features).save_to_disk(root / "saved")
    return root / "saved"


def table_with_a_column_a_class(root):
    with_class_files(images(root), "a/{}.png", "v/{}.png")
    rows = "".join(f"images/{n}.png,a/{n}.png,v/{n}.png\n" for n in range(NUMBER))
    (root / "t.csv").write_text("image,arteries,vein\n" + rows)
    return root / "t.csv", ["artery=arteries", "vein"], (ARTERY, VEIN), False
