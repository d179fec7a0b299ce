"""Classes and masks that are refused by name, and what stands in the place of masks that are not there."""

import numpy as np
import pytest

from topolora_hf import load_segmentation_data
from topolora_hf.data.classes import read_classes
from topolora_hf.data.errors import DataError
from topolora_hf.data.tiles import TileDataset, largest_half_width

from .class_masks import (
    ARTERY,
    BOTH,
    COLOURS,
    FLAT,
    INDEX,
    LOWER,
    SIZE,
    VEIN,
    classes_file,
    columns,
    images,
    masks_of,
    palette,
    save,
    table_with_a_column_a_class,
    with_class_files,
    with_masks,
)


@pytest.mark.parametrize(
    "mask, classes, found",
    [
        (INDEX, ["artery=1", "vein=2"], rf"values that no class has \(4\).*3 \({4 * BOTH.sum()} pixels in 4 masks\)"),
        (INDEX, ["artery=1", "vein=2"], 'artery 1; vein 2; background 0. "NAME=3".*"background=3".*--ignore "3"'),
        (COLOURS[INDEX], None, r"several colours: .*#00ff00.*#ff0000.*--classes class1=#0000ff class2=#00ff00"),
        (COLOURS[INDEX], ["artery=#ff0000"], r"#0000ff \(\d+ pixels in 4 masks\), #00ff00"),
        (COLOURS[INDEX], ["artery=1", "vein=2"], r"#0000ff \(\d+ pixels in 4 masks\), #ff0000 "),
        (palette(INDEX), ["artery=1", "vein=2"], r"3 \(#00ff00\) \(36 pixels in 4 masks\)"),
        (INDEX, None, r"more than two levels.*--mask_values.*--classes class1=1 class2=2 class3=3"),
        (FLAT, ["artery=1", "vein=2", "capillary=5"], "any pixel of class capillary; masks hold 0, 1, 2"),
        (ARTERY, ["artery=1", "vein=2"], r"255 \(192 pixels in 4 masks\)"),
        (INDEX, ["artery", "vein"], "artery: it has neither values nor own files"),
        (INDEX, ["artery=3-1", "vein=2"], "the range 3-1 is empty"),
        (INDEX, ["artery=arteries", "vein=2"], "artery: 'arteries' is no value, and not there"),
        (INDEX, {"artery": "1", "vein": "all", "exclusive": True}, "value 1 is of artery and of vein, and excl"),
        (FLAT // 2, ["artery=1", "vein=#010101", "exclusive=true"], "pixels of two classes.*exclusive=false"),
    ],
)  # fmt: skip
def test_wrong_masks_are_refused_with_what_was_found(mask, classes, found, tmp_path):
    with_masks(images(tmp_path), mask)
    with pytest.raises(DataError, match=f"(?s){found}"):
        load_segmentation_data(str(tmp_path), classes=classes)


@pytest.mark.parametrize(
    "given, problem",
    [
        (["artery=1", "Artery=2"], "artery and Artery are one name"),
        (["art/ery=1"], "'art/ery': a name is needed"),
        ({1: "artery"}, "1: a name is needed"),
        (["background=1"], "names no class"),
        (["artery=1", "ignore"], "ignore needs values, as in ignore=255"),
        (["artery=1", "vein=2", "background=2"], "value 2 is vein and background"),
        (["artery=1", "exclusive=false"], "exclusive is for several classes, there is one"),
        (["artery=1", "vein=2", "exclusive=yes"], "exclusive must be true or false, got 'yes'"),
        (["artery=1", "vein={stem}_v.png"], "folder or file, or each values; got artery: 1; vein: {stem}_v"),
        ({"artery": {"value": 1}}, "artery: unknown key 'value'; allowed: values, folder, pattern, thin"),
        ({"artery": {"values": 1, "thin": "no"}}, "thin must be true or false, got 'no'"),
        ({"artery": {"pattern": "a.png"}}, "pattern must contain {stem} once"),
        ({"artery": True}, "got True"),
        ({"artery": []}, "artery has an empty list"),
        (["artery=1,,2"], "artery: got ''"),
        ([1, 2], "texts such as artery=1, or a mapping, are needed; got [1, 2]"),
    ],
)  # fmt: skip
def test_classes_that_make_no_sense_are_refused(given, problem):
    with pytest.raises(DataError) as caught:
        read_classes(given)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    "name, text, problem",
    [
        ("c.yaml", "artery: #ff0000\n", 'in YAML a colour needs quotes, "#ff0000"'),
        ("c.yaml", "artery: 1\nartery: 2\n", "names artery twice"),
        ("c.json", '{"artery": 1, "artery": 2}', "names artery twice"),
        ("c.json", '{"artery": 1,', "neither key=value nor a YAML or JSON file"),
        ("c.yaml", "3", "must hold name: value, got int"),
        ("absent.yaml", None, "neither key=value nor a YAML or JSON file"),
    ],
)
def test_wrong_files_of_classes_are_refused(name, text, problem, tmp_path):
    if text is not None:
        classes_file(tmp_path, text, name)
    with pytest.raises(DataError) as caught:
        read_classes(str(tmp_path / name))
    assert problem in str(caught.value)


def test_a_list_of_names_in_a_file_is_as_on_the_command_line(tmp_path):
    assert read_classes(classes_file(tmp_path, "[artery, vein]")) == read_classes(["artery", "vein"])
    assert read_classes(classes_file(tmp_path, "artery: 1\nvein: '2-3'")) == read_classes(["artery=1", "vein=2-3"])


def test_masks_of_classes_in_jpeg_are_refused(tmp_path):
    with_masks(images(tmp_path), INDEX * np.uint8(80), "masks/{}.jpg")
    with pytest.raises(DataError, match=r"masks/0.jpg: is stored with loss \(JPEG\).*save it as PNG, or give"):
        load_segmentation_data(str(tmp_path), classes=["artery=80", "vein=160"])


def test_other_settings_of_masks_contradict_classes(tmp_path):
    from topolora_hf.data.mask_rule import MaskRule

    with_masks(images(tmp_path), FLAT)
    with pytest.raises(DataError, match="classes say what is structure, and so does mask_values or invert_masks"):
        load_segmentation_data(str(tmp_path), classes=["artery=1", "vein=2"], mask_rule=MaskRule(values=("1",)))
    with pytest.raises(DataError, match="--ignore: value 2 is vein"):
        load_segmentation_data(str(tmp_path), classes=["artery=1", "vein=2"], mask_rule=MaskRule(ignore=("2",)))
    with pytest.raises(DataError, match="is drawn"):
        load_segmentation_data("synthetic", classes=["artery=1"])


def test_files_that_no_class_names_are_refused(tmp_path):
    with_masks(with_class_files(images(tmp_path)), BOTH, "masks/capillary/{}.png")
    with pytest.raises(DataError, match=r"has 4 masks that no class names: capillary/0.png.*background=FOLDER/"):
        load_segmentation_data(str(tmp_path), classes=["artery", "vein"])
    data, masks, _ = masks_of(tmp_path, ["artery", "vein", "background=capillary/"])
    assert (masks == np.stack([ARTERY, VEIN])).all()


def test_folders_of_classes_suggest_classes(tmp_path):
    with_class_files(images(tmp_path))
    with pytest.raises(DataError, match="If each folder is a class: --classes artery vein"):
        load_segmentation_data(str(tmp_path))
    with pytest.raises(DataError, match="artery and vein have the same files, in .*masks/vein"):
        load_segmentation_data(str(tmp_path), classes=["artery=vein/", "vein"])


def test_a_class_without_files_is_refused_with_where_they_were_looked_for(tmp_path):
    with_class_files(images(tmp_path))
    with pytest.raises(DataError, match=r"1 of 3 classes \(nerve: no folder nerve/ and no file NAME_nerve.png\).*Fo"):
        load_segmentation_data(str(tmp_path), classes=["artery", "vein", "nerve"])
    with pytest.raises(DataError, match="vein: veins/"):
        load_segmentation_data(str(tmp_path), classes=["artery=artery/", "vein=veins/"])


def test_a_forgotten_file_of_a_class_is_an_error_and_an_empty_one_a_negative(tmp_path):
    with_class_files(images(tmp_path))
    (tmp_path / "masks/vein/1.png").unlink()
    save(tmp_path / "masks/artery/2.png", ARTERY & False)
    with pytest.raises(DataError, match=r"no mask \(1\): images/1.png \(of vein\).*--missing_mask empty"):
        load_segmentation_data(str(tmp_path), classes=["artery", "vein"])
    data = load_segmentation_data(str(tmp_path), classes=["artery", "vein"], missing_mask="empty")
    by_id = {row["id"]: row["mask"].any(axis=(1, 2)).tolist() for rows in data.values() for row in rows}
    assert by_id == {"0": [True, True], "1": [True, False], "2": [False, True], "3": [True, True]}


def test_negatives_are_measured_like_other_rows(tmp_path):
    with_masks(images(tmp_path), ARTERY)
    for number in (1, 2):
        (tmp_path / f"masks/{number}.png").unlink()
    data = load_segmentation_data(str(tmp_path), missing_mask="empty", validation_fraction=0)
    rows = [row for rows in data.values() for row in rows]
    assert sorted(row["id"] for row in rows if not row["mask"].any()) == ["1", "2"]
    assert all(row["mask"].shape == (1, *SIZE) and row["valid_mask"].all() for row in rows)
    assert largest_half_width(data["train"]) == 2  # masks alone are read, also where there is none
    item = TileDataset(rows, 16)[[row["id"] for row in rows].index("1")]
    assert not item["labels"].any() and not item["skeleton"].any() and item["valid_mask"].any()


def test_pixels_of_two_exclusive_classes_are_counted(tmp_path):
    with_class_files(images(tmp_path))
    with pytest.raises(DataError, match=rf"two classes.*masks/artery/0.png \({BOTH.sum()} pixels\)"):
        load_segmentation_data(str(tmp_path), classes=["artery", "vein", "exclusive=true"])


def test_columns_of_classes_must_be_there(tmp_path):
    dataset, *_ = table_with_a_column_a_class(tmp_path)
    for wrong in (["artery", "vein"], ["artery=1", "vein"], ["artery=arteries,vein", "vein"]):
        with pytest.raises(DataError, match=r"t.csv: --classes must name values, or one column a class .* image, art"):
            load_segmentation_data(str(dataset), classes=wrong)
    saved = columns(tmp_path / "hub", artery=ARTERY)
    with pytest.raises(DataError, match="one column a class .*there are image, artery"):
        load_segmentation_data(str(saved), classes=["artery", "vein"])


def test_one_name_alone_names_the_structure_of_binary_masks(tmp_path):
    with_masks(images(tmp_path), ARTERY)
    data, masks, _ = masks_of(tmp_path, ["crack"])
    plain, plain_masks, _ = masks_of(tmp_path, None)
    assert data.labels == ("crack",) and plain.labels == ("foreground",) and (masks == plain_masks).all()


@pytest.mark.parametrize("exclusive", [True, False])
def test_rows_squashed_for_the_paper_keep_their_maps(exclusive, tmp_path):
    with_masks(images(tmp_path), FLAT if exclusive else INDEX)
    classes = ["artery=1", "vein=2"] if exclusive else ["artery=1,3", "vein=2,3"]
    row = load_segmentation_data(str(tmp_path), protocol="paper", classes=classes)["test"][0]
    assert row["mask"].shape == (2, 384, 384) and row["valid_mask"].shape == (384, 384)
    assert abs(row["mask"].mean(axis=(1, 2)) - [ARTERY.mean(), (LOWER if exclusive else VEIN).mean()]).max() < 0.01
