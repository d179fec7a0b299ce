"""File names of any kind, from reading to what is written."""

import csv
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from topolora_hf.commands.describe import DescribeArguments, describe
from topolora_hf.data.errors import DataError
from topolora_hf.data.loading import load_segmentation_data
from topolora_hf.hub.model_card import render_model_card
from topolora_hf.inference.files import find_images
from topolora_hf.metrics.report import write_per_image_csv

NAMES = {
    "spaces": "two  words ",
    "unicode": "Gefäß 血管 🩸",
    "newline": "first\nsecond",
    "dash": "-rf",
    "quotes": "a'b\"c",
    "shell": ";$(touch gone)`touch gone`&&touch gone|x",
    "formula": "=1+1",
    "glob": "[a-z]*?",
    "braces": "{stem}{0}%s",
    "maths": "$x^{$",
    "bytes": os.fsdecode(b"\xff\xfe"),
    "long": "n" * 240,
}


@pytest.mark.parametrize("kinds", [[kind for kind in NAMES if kind != "bytes"], ["bytes"]], ids=["text", "bytes"])
def test_images_of_any_name_are_read_scored_and_described(make_pairs, tmp_path, monkeypatch, kinds):
    monkeypatch.chdir(tmp_path)
    make_pairs(tmp_path / "set", len(kinds) + 3)
    for number, kind in enumerate(kinds):
        for part in ("images", "masks"):
            os.rename(tmp_path / "set" / part / f"{number:03d}.png", tmp_path / "set" / part / f"{NAMES[kind]}.png")
    data = load_segmentation_data("set", validation_fraction=0)
    rows = [row for split in data.values() for row in split]
    assert {NAMES[kind] for kind in kinds if kind != "bytes"} <= {row["id"] for row in rows}
    assert len(rows) == len(kinds) + 3 and all(row["mask"].any() for row in rows)
    write_per_image_csv(tmp_path / "per_image.csv", [{"id": row["id"], "dice": 1.0} for row in rows])
    with open(tmp_path / "per_image.csv", newline="", encoding="utf-8") as file:
        assert [row["id"] for row in csv.DictReader(file)] == [row["id"] for row in rows]
    describe(DescribeArguments(dataset="set", output_dir="out"))
    assert Path("out/contact_sheet.png").is_file() and not Path("gone").exists()


def test_accents_of_either_form_pair(make_pairs, tmp_path):
    make_pairs(tmp_path, 4)
    name = "Gefäß"
    os.rename(tmp_path / "images/002.png", tmp_path / "images" / f"{unicodedata.normalize('NFC', name)}.png")
    os.rename(tmp_path / "masks/002.png", tmp_path / "masks" / f"{unicodedata.normalize('NFD', name)}.png")
    assert sum(map(len, load_segmentation_data(str(tmp_path)).values())) == 4


def test_two_images_whose_names_differ_by_the_form_of_an_accent_are_named(make_pairs, save, tmp_path):
    make_pairs(tmp_path, 4)
    for form in ("NFC", "NFD"):
        save(tmp_path / "images" / f"{unicodedata.normalize(form, 'ä')}.png")
    with pytest.raises(DataError, match="several images of one name"):
        load_segmentation_data(str(tmp_path))


def test_links_in_circles_are_not_followed(make_pairs, tmp_path):
    make_pairs(tmp_path / "set", 4)
    for folder in (tmp_path / "set", tmp_path / "set/images", tmp_path / "set/masks"):
        for name in ("back", "again"):
            (folder / name).symlink_to(tmp_path / "set", target_is_directory=True)
        (folder / "itself.png").symlink_to(folder / "itself.png")
    assert sum(map(len, load_segmentation_data(str(tmp_path / "set")).values())) == 4
    found = find_images([tmp_path / "set" / "**" / "*.png"])
    assert sorted(found) == sorted((tmp_path / "set").glob("*s/???.png"))


def test_patterns_find_what_they_did_for_a_shell(save, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/1.png", "a/b/2.png", "a/b/c/3.jpg", "a/.hidden/4.png", "a/[5].png"):
        save(Path(name))
    for pattern, names in {
        "a/*.png": "1 [5]",
        "a/**/*.png": "1 2 [5]",
        "a/**": "1 2 3 [5]",
        "a/?/2.*": "2",
        "*/b/**/*.jpg": "3",
        str(tmp_path / "a" / "b" / "*"): "2",
        "a/[5].png": "[5]",
    }.items():
        assert {path.stem for path in find_images([pattern])} == set(names.split()), pattern


def test_a_folders_name_cannot_break_the_card_or_carry_what_is_no_unicode():
    settings = {"base": "facebook/sam-vit-base", "dataset": os.fsdecode(b"sets/a|b\n# heading \xff")}
    text = str(render_model_card(settings, {}))
    assert "\n# heading" not in text and "\\xff" in text
    text.encode()


def test_a_pipe_or_a_device_in_a_table_is_refused_rather_than_waited_for(save, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    rows = ["image,mask"] + [f"{n}.png,m{n}.png" for n in range(4)] + ["pipe.png,m0.png", "/dev/zero,m0.png"]
    for number in range(4):
        save(tmp_path / f"{number}.png", "image", number)
        save(tmp_path / f"m{number}.png", "mask", number)
    (tmp_path / "table.csv").write_text("\n".join(rows))
    with pytest.raises(DataError, match=r"pipe.png: is not a plain file, /dev/zero: is not a plain file"):
        load_segmentation_data(str(tmp_path / "table.csv"))


def test_what_a_mask_shows_is_not_changed_by_its_name(tmp_path):
    """A name with `{stem}` in it, and one that a pattern could take for its own."""
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for number, stem in enumerate(("a{stem}", "b.*", "c(", "d")):
        Image.fromarray(np.full((9, 9, 3), 40 * number, np.uint8)).save(tmp_path / "images" / f"{stem}.png")
        mask = np.zeros((9, 9), np.uint8)
        mask[number] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / f"{stem}_gt.png")
    data = load_segmentation_data(str(tmp_path), validation_fraction=0)
    for row in (row for split in data.values() for row in split):
        assert row["mask"][0].any(axis=1).argmax() == row["image"][0, 0, 0] // 40
