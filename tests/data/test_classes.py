"""Masks of several classes as people have them: which layout is read as what."""

import json

import numpy as np
import pytest

from topolora_hf import load_segmentation_data

from .class_masks import (
    ARTERY,
    BLUE,
    BOTH,
    COLOURS,
    FLAT,
    INDEX,
    LOWER,
    NUMBER,
    RED,
    VEIN,
    classes_file,
    columns,
    images,
    masks_of,
    noise,
    palette,
    save,
    table_with_a_column_a_class,
    with_class_files,
    with_masks,
)


def index_map(root):
    with_masks(images(root), FLAT)
    return root, ["artery=1", "vein=2"], (ARTERY, LOWER), True


def value_of_two_classes(root):
    with_masks(images(root), INDEX)
    return root, ["artery=1,3", "vein=2-3"], (ARTERY, VEIN), False


def value_left_out_by_the_file(root):
    with_masks(images(root), INDEX)
    file = classes_file(root, "artery: 1\nvein: [2]\nignore: 3\n")
    return root, file, (ARTERY & ~BOTH, LOWER), True, ~BOTH


def index_map_with_255(root):
    with_masks(images(root), np.where(BOTH, 255, INDEX).astype(np.uint8))
    return root, ["artery=1", "vein=2"], (ARTERY & ~BOTH, LOWER), True, ~BOTH


def palette_by_index(root):
    with_masks(images(root), palette(INDEX))
    return root, ["artery=1,3", "vein=2,3"], (ARTERY, VEIN), False


def palette_by_colour_in_any_order(root):
    with_masks(images(root), palette(3 - INDEX, COLOURS[::-1]))
    return root, ["artery=#ff0000,#00ff00", "vein=#0000ff,#00FF00"], (ARTERY, VEIN), False


def colours_by_json(root):
    with_masks(images(root), COLOURS[INDEX])
    text = json.dumps({"artery": ["#ff0000", "#00ff00"], "vein": {"values": ["#0000ff", "#00ff00"], "thin": False}})
    return root, classes_file(root, text, "classes.json"), (ARTERY, VEIN), False


def sixteen_bits(root):
    with_masks(images(root), FLAT.astype(np.uint16) * 300, "masks/{}.png")
    return root, {"artery": 300, "vein": 600}, (ARTERY, LOWER), True


def one_class_of_several_values(root):
    with_masks(images(root), INDEX)
    return root, ["vessel=1-3"], (ARTERY | VEIN,), False


def background_by_name(root):
    with_masks(images(root), np.where(FLAT == 0, 7, FLAT).astype(np.uint8))
    return root, ["artery=1", "vein=2", "background=7"], (ARTERY, LOWER), True


def folders_in_masks(root):
    return with_class_files(images(root)), ["artery", "vein"], (ARTERY, VEIN), False


def folders_beside_images(root):
    return with_class_files(images(root), "Artery/{}.png", "Vein/{}.tif"), ["artery", "vein"], (ARTERY, VEIN), False


def folders_in_splits(root):
    for split in ("train", "test"):
        for number in range(2):
            save(root / f"{split}/images/{number}.png", noise(10 * number + (split == "test")))
            save(root / f"{split}/masks/artery/{number}.png", ARTERY)
            save(root / f"{split}/masks/vein/{number}.png", VEIN)
    return root, ["artery", "vein"], (ARTERY, VEIN), False


def suffixes(root):
    with_class_files(images(root), "masks/{}_artery.png", "masks/{}-vein.png")
    return root, ["artery", "vein"], (ARTERY, VEIN), False


def suffixes_beside_images(root):
    with_class_files(images(root, "{}.png"), "{}_artery.png", "{}_vein.png")
    return root, ["artery", "vein"], (ARTERY, VEIN), False


def patterns_and_folders(root):
    with_class_files(images(root), "masks/{}_a.png", "gt_vein/{}_v.png")
    return root, ["artery={stem}_a.png", "vein=gt_vein/{stem}_v.png"], (ARTERY, VEIN), False


def files_that_exclude_each_other(root):
    with_masks(with_masks(images(root), ARTERY, "masks/artery/{}.png"), LOWER, "masks/vein/{}.png")
    text = "artery: {folder: artery}\nvein: {folder: vein, thin: false}\nexclusive: true\n"
    return root, classes_file(root, text), (ARTERY, LOWER), True


def folder_of_what_is_ignored(root):
    with_masks(with_class_files(images(root)), BOTH, "masks/unsure/{}.png")
    return root, ["artery", "vein", "ignore=unsure/"], (ARTERY, VEIN), False, ~BOTH


def value_that_is_ignored_in_files_of_a_class(root):
    def with_255(mask):
        return np.where(LOWER, np.uint8(255), mask.astype(np.uint8))

    with_masks(with_masks(images(root), with_255(ARTERY & ~LOWER), "masks/artery/{}.png"), with_255(VEIN & ~LOWER),
               "masks/vein/{}.png")  # fmt: skip
    return root, ["artery", "vein", "ignore=255"], (ARTERY & ~LOWER, VEIN & ~LOWER), False, ~LOWER


def value_that_one_class_ignores(root):
    with_masks(images(root), np.where(LOWER, np.uint8(255), (ARTERY & ~LOWER).astype(np.uint8)))
    return root, ["vessel", "ignore=255"], (ARTERY & ~LOWER,), False, ~LOWER


def table_of_an_index_map(root):
    with_masks(images(root), FLAT, "m/{}.png")
    rows = "".join(f"images/{n}.png,m/{n}.png\n" for n in range(NUMBER))
    (root / "t.csv").write_text("image,mask\n" + rows)
    return root / "t.csv", ["artery=1", "vein=2"], (ARTERY, LOWER), True


def saved_data_set_of_a_palette(root):
    return columns(root, annotation=palette(INDEX)), ["artery=1,3", "vein=2,3"], (ARTERY, VEIN), False


def saved_data_set_with_a_column_a_class(root):
    saved = columns(root, artery_mask=ARTERY, vein=VEIN)
    return saved, ["artery=artery_mask", "vein"], (ARTERY, VEIN), False


LAYOUTS = [
    index_map, value_of_two_classes, value_left_out_by_the_file, index_map_with_255, palette_by_index,
    palette_by_colour_in_any_order, colours_by_json, sixteen_bits, one_class_of_several_values, background_by_name,
    folders_in_masks, folders_beside_images, folders_in_splits, suffixes, suffixes_beside_images, patterns_and_folders,
    files_that_exclude_each_other, folder_of_what_is_ignored, value_that_is_ignored_in_files_of_a_class,
    value_that_one_class_ignores,
    table_of_an_index_map, table_with_a_column_a_class,
    saved_data_set_of_a_palette, saved_data_set_with_a_column_a_class,
]  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_layouts_of_class_masks_are_read_right(layout, tmp_path):
    dataset, classes, expected, exclusive, *valid = layout(tmp_path)
    data, masks, valid_mask = masks_of(dataset, classes)
    assert (masks == np.stack(expected)).all()
    assert data.exclusive == exclusive and len(data.labels) == len(data.thin) == len(expected)
    assert data.labels == ("artery", "vein") or data.labels == ("vessel",)
    assert (valid_mask == (valid[0] if valid else True)).all()


def test_a_palette_means_the_same_whichever_of_its_colours_a_mask_has(tmp_path):
    with_masks(images(tmp_path), palette(INDEX, np.array([(0, 0, 0), RED, BLUE, (255, 255, 255)], np.uint8)))
    white = np.where(BOTH, 3, 0).astype(np.uint8)
    save(tmp_path / "masks/1.png", palette(white, np.array([(0, 0, 0), RED, BLUE, (255, 255, 255)], np.uint8)))
    data = load_segmentation_data(str(tmp_path), classes=["artery=1,3", "vein=2,3"])
    row = next(row for rows in data.values() for row in rows if row["id"] == "1")
    assert (row["mask"] == BOTH).all() and row["valid_mask"].all()


def test_classes_say_which_are_thin_and_remarks_what_was_read(tmp_path):
    dataset, classes, *_ = colours_by_json(tmp_path)
    data, *_ = masks_of(dataset, classes)
    assert data.thin == (True, False)
    assert "artery is #ff0000, #00ff00; vein is #0000ff, #00ff00; classes may overlap" in data.remarks
    dataset, classes, *_ = index_map_with_255(tmp_path / "other")
    data, *_ = masks_of(dataset, classes)
    assert "255 is ignored in 4 masks, as nothing names it" in data.remarks
    assert data.levels["255"] == (pytest.approx(BOTH.mean()), "ignored")
    assert data.levels["1"] == (pytest.approx((ARTERY & ~BOTH).mean()), "artery")
