import logging

import pytest

from topolora_hf.data.errors import DataError
from topolora_hf.data.loading import load_segmentation_data
from topolora_hf.data.records import Layout


def load(root, **layout):
    data = load_segmentation_data(str(root), layout=Layout(**layout), validation_fraction=0)
    rows = {row["id"]: row for split in data.values() for row in split}
    for row in rows.values():  # the line of a mask says which image it belongs to
        number = int("".join(character for character in row["id"] if character.isdigit())[-3:])
        assert row["mask"][0].any(axis=1).argmax() == number % 10 + 2
    return data, rows


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("image/{n:03d}.png", "label/{n:03d}.png"),
        ("input/{n:03d}.png", "label/{n:03d}.png"),
        ("sat/{n:03d}.tiff", "map/{n:03d}.tif"),
        ("images/{n:03d}_sat.jpg", "masks/{n:03d}_mask.png"),
        ("JPEGImages/{n:03d}.jpg", "annotations/{n:03d}_gt.png"),
        ("Original/{n:03d}_A.png", "Ground truth/{n:03d}_A.png"),  # FIVES
        ("{n:03d}.jpg", "{n:03d}_mask.png"),
        ("{n:03d}_sat.jpg", "{n:03d}_mask.png"),
        ("Image_{n:03d}.jpg", "Image_{n:03d}_1stHO.png"),
    ],
)
def test_usual_layouts_are_found_without_flags(make_pairs, tmp_path, image, mask):
    _, rows = load(make_pairs(tmp_path, 4, image, mask))
    assert len(rows) == 4


@pytest.mark.parametrize(
    ("files", "flags"),
    [
        (("photos/p{n:03d}.png", "traces/p{n:03d}.png"), {"image_dir": "photos", "mask_dir": "traces"}),
        (
            ("photos/{n:03d}_a.png", "traces/t_{n:03d}_b.png"),
            {
                "image_dir": "photos",
                "mask_dir": "traces",
                "image_pattern": "{stem}_a.png",
                "mask_pattern": "t_{stem}_b*",
            },
        ),
        (("{n:03d}.jpg", "{n:03d}_membrane.png"), {"mask_pattern": "{stem}_membrane.png"}),
        (("{n:03d}.jpg", "masks/{n:03d}.png"), {"image_dir": "."}),
        (("images/{n:03d}.jpg", "images/drawn/{n:03d}.png"), {"mask_dir": "images/drawn"}),
        (
            ("{n:03d}_raw.png", "{n:03d}_out.png"),
            {"image_pattern": "{stem}_raw.png", "mask_pattern": "{stem}_out.png"},
        ),
        (
            ("all/{n:03d}_raw.png", "all/{n:03d}_out.png"),
            {
                "image_dir": "all",
                "mask_dir": "all",
                "image_pattern": "{stem}_raw.png",
                "mask_pattern": "{stem}_out.png",
            },
        ),
    ],
)
def test_any_naming_is_read_by_flags(make_pairs, tmp_path, files, flags):
    _, rows = load(make_pairs(tmp_path, 4, *files), **flags)
    assert len(rows) == 4


@pytest.mark.parametrize(
    ("image", "mask", "view"),
    [
        ("images/{n:03d}_dr.JPG", "manual1/{n:03d}_dr.tif", "mask/{n:03d}_dr_mask.tif"),  # HRF
        ("image/STAR {n:03d}_OSC.jpg", "GT/STAR {n:03d}_OSC_GT.tif", "mask/STAR {n:03d}_OSC_Mask.tif"),  # IOSTAR
        ("images/{n:03d}.png", "vessel-segmentations/{n:03d}.png", "masks/{n:03d}.png"),  # LES-AV
        ("images/{n:03d}.png", "masks/{n:03d}.png", "fov/{n:03d}_fov.png"),
    ],
)
def test_fundus_layouts_tell_vessels_from_the_field_of_view(make_pairs, tmp_path, image, mask, view):
    _, rows = load(make_pairs(tmp_path, 4, image, mask, view))
    assert all(not row["valid_mask"][0].any() and row["valid_mask"][1, 1] for row in rows.values())


def test_the_field_of_view_may_be_named_by_flags(make_pairs, tmp_path):
    make_pairs(tmp_path, 4, "im/{n:03d}.png", "ves/{n:03d}.png", "where/{n:03d}-w.png")
    flags = {"image_dir": "im", "mask_dir": "ves", "valid_mask_dir": "where", "valid_mask_pattern": "{stem}-w.png"}
    _, rows = load(tmp_path, **flags)
    assert not any(row["valid_mask"][0].any() for row in rows.values())


def test_a_field_of_view_may_lie_beside_image_and_mask(make_pairs, tmp_path):
    make_pairs(tmp_path / "flat", 4, "{n:03d}.png", "{n:03d}_mask.png", "{n:03d}_fov.png")
    flags = {"mask_pattern": "{stem}_mask.png", "valid_mask_pattern": "{stem}_fov.png"}
    _, rows = load(tmp_path / "flat", **flags)
    assert len(rows) == 4 and not any(row["valid_mask"][0].any() for row in rows.values())
    make_pairs(tmp_path / "apart", 4, mask="masks/{n:03d}_mask.png", view="disc/{n:03d}_fov.png")
    with pytest.raises(DataError, match="valid_mask_dir.*Found: disc/, images/, masks/"):
        load(tmp_path / "apart", **flags)


def test_splits_above_or_below_the_two_folders(make_pairs, tmp_path):
    above, below = tmp_path / "above", tmp_path / "below"
    for split, first in (("training", 0), ("val", 10), ("test", 20)):
        make_pairs(above / split, 3, first=first)
        make_pairs(below, 3, f"images/{split}/{{n:03d}}.png", f"masks/{split}/{{n:03d}}.png", first=first)
    for root in (above, below):
        data, _ = load(root)
        assert {split: len(rows) for split, rows in data.items()} == {"train": 3, "validation": 3, "test": 3}


def test_two_masks_for_an_image_are_told_apart_by_a_pattern(make_pairs, save, tmp_path):
    make_pairs(tmp_path, 4, "{n:03d}.jpg", "{n:03d}_1stHO.png")
    for number in range(4):
        save(tmp_path / f"{number:03d}_2ndHO.png", "mask", number + 5)
    with pytest.raises(DataError, match="(?s)mask_pattern.*000.jpg: 000_1stHO.png, 000_2ndHO.png"):
        load(tmp_path)
    _, rows = load(tmp_path, mask_pattern="{stem}_1stHO.png")
    assert len(rows) == 4


def test_a_mask_serves_one_image(make_pairs, save, tmp_path):
    make_pairs(tmp_path, 3, mask="masks/{n:03d}_mask.png")
    for number in range(3):
        save(tmp_path / f"images/{number:03d}_test.png", "image", number + 5)
    with pytest.raises(DataError, match=r"no mask \(3\): images/000_test.png"):
        load(tmp_path)
    data = load_segmentation_data(str(tmp_path), missing_mask="empty", validation_fraction=0)
    marked = {row["id"] for rows in data.values() for row in rows if row["mask"].any()}
    assert marked == {"000", "001", "002"}
    for number in range(3):
        (tmp_path / f"images/{number:03d}.png").rename(tmp_path / f"images/{number:03d}_sat.png")
    with pytest.raises(DataError, match="000_mask.png could be the mask of 000_sat.png and 000_test.png; .*image_patt"):
        load(tmp_path)


def test_a_guessed_field_of_view_is_announced(make_pairs, tmp_path, caplog):
    make_pairs(tmp_path, 3, "images/{n:03d}.png", "manual1/{n:03d}.png", "mask/{n:03d}.png")
    with caplog.at_level(logging.WARNING):
        load(tmp_path)
    assert "manual1/ is taken as the masks and mask/ as the field of view" in caplog.text


def test_masks_under_other_names_than_the_images_are_explained(make_pairs, tmp_path):
    make_pairs(tmp_path, 3, "images/a{n:03d}.png", "masks/b{n:03d}.png")
    with pytest.raises(DataError, match="no mask in .*masks has the name of an image.*mask_pattern"):
        load(tmp_path)


@pytest.mark.parametrize("pattern", ["_mask.png", "{stem}{stem}.png", "{name}.png"])
def test_patterns_need_the_stem_once(pattern):
    with pytest.raises(DataError, match="mask_pattern must contain"):
        Layout(mask_pattern=pattern)


def test_images_beside_split_folders_are_not_divided_anew(tmp_path, save):
    for part in ("train", "test", "later"):
        save(tmp_path / "images" / part / f"{part}.png")
        save(tmp_path / "masks" / part / f"{part}.png", "mask")
    with pytest.raises(DataError, match=r"folders of splits and images beside them \(later\)"):
        load_segmentation_data(str(tmp_path))
