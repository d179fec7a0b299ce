import json

import numpy as np
import pytest
from PIL import Image

from topolora_hf.commands.describe import DescribeArguments, describe, describe_rows
from topolora_hf.commands.parser import SettingsParser
from topolora_hf.pictures.overlay import contact_sheet


def row(width, view=None):
    mask = np.zeros((60, 80), np.uint8)
    mask[20 : 20 + width, 5:75] = 1
    view = np.ones((60, 80), bool) if view is None else view
    return {"id": "a", "image": np.full((60, 80, 3), 100, np.uint8), "mask": mask[None], "valid_mask": view}


@pytest.mark.parametrize("width", [1, 3, 7])
def test_the_width_is_that_of_the_drawn_bar(width):
    assert describe_rows([row(width)])["width_px"][1] == pytest.approx(width, abs=0.01)


def test_fractions_are_of_the_field_of_view():
    view = np.zeros((60, 80), bool)
    view[:, :40] = True
    facts = describe_rows([row(6, view), row(6, view)])
    assert facts["foreground_fraction"]["mean"] == pytest.approx(6 * 35 / (60 * 40))
    assert facts["field_of_view_fraction"] == 0.5
    assert facts["sizes"] == {"80x60": 2} and facts["intensity"]["mean"] == 100


@pytest.mark.parametrize("level", [0, 1])
def test_empty_and_full_masks_have_no_width(level):
    blank = row(1) | {"mask": np.full((1, 60, 80), level, np.uint8)}
    facts = describe_rows([blank])
    assert facts["width_px"] is None and facts["empty_masks"] == 1 - level


def test_classes_are_measured_one_by_one_and_their_union_first():
    both = row(3)
    other = np.roll(row(7)["mask"], 20, axis=1)
    both["mask"] = np.concatenate([both["mask"], other])
    facts = describe_rows([both], labels=("thin", "wide"))
    assert facts["foreground_fraction"]["mean"] == pytest.approx(10 * 70 / 4800)
    assert [facts["classes"][name]["width_px"][1] for name in ("thin", "wide")] == pytest.approx([3, 7], abs=0.01)
    assert facts["classes"]["wide"]["foreground_fraction"]["mean"] == pytest.approx(7 * 70 / 4800)


def test_describe_lists_each_value_with_what_it_is_taken_for(make_pairs, tmp_path, capsys):
    make_pairs(tmp_path / "set", 4)
    for path in (tmp_path / "set/masks").iterdir():
        mask = np.zeros((24, 20), np.uint8)
        mask[2:4], mask[8:10], mask[20:] = 1, 3, 255
        Image.fromarray(mask).save(path)
    flags = ["--dataset", str(tmp_path / "set"), "--output_dir", str(tmp_path / "out"), "--classes", "a=1", "b=3,1"]
    (args,) = SettingsParser(DescribeArguments).parse_args_into_dataclasses(flags)
    written = describe(args)
    assert written["labels"] == ["a", "b"] and not written["exclusive"]
    expected = {"0": (16 / 24, "background"), "255": (4 / 24, "ignored"), "1": (2 / 24, "a and b"), "3": (2 / 24, "b")}
    assert written["values"] == {
        value: {"share": pytest.approx(share), "taken_for": what} for value, (share, what) in expected.items()
    }
    printed = capsys.readouterr().out
    assert "255             16.67%  ignored" in printed and "  b               20.00% of the field of view" in printed


def test_describe_writes_numbers_remarks_and_a_picture(make_pairs, tmp_path, capsys):
    make_pairs(tmp_path / "set", 6)
    (tmp_path / "set/masks/002.png").unlink()
    flags = ["--dataset", str(tmp_path / "set"), "--skip_bad", "--output_dir", str(tmp_path / "out"), "--images", "3"]
    (args,) = SettingsParser(DescribeArguments).parse_args_into_dataclasses(flags)
    describe(args)
    written = json.loads((tmp_path / "out/description.json").read_text())
    assert sum(split["images"] for split in written["splits"].values()) == 5
    assert "images/002.png" in written["remarks"][0]
    with Image.open(tmp_path / "out/contact_sheet.png") as sheet:
        assert sheet.width > 3 * 256
    printed = capsys.readouterr().out
    assert "train: 3 images" in printed and "images/002.png" in printed


def test_the_sheet_shows_foreground_in_colour_and_dims_what_is_outside():
    view = np.ones((60, 80), bool)
    view[:, 40:] = False
    picture = np.asarray(contact_sheet([("a" * 500, row(6, view))], columns=2)).astype(int)
    shown = picture[-192 - 6 : -6, -256 - 6 : -6]
    assert (shown[70, 60, 2] - shown[70, 60, 0]) > 80  # foreground is cyan
    assert shown[10, 60].mean() > 2 * shown[10, 200].mean()


def test_impossible_numbers_are_refused():
    with pytest.raises(ValueError, match="images must be at least 1, got 0"):
        DescribeArguments(dataset="synthetic", images=0)
    with pytest.raises(ValueError, match="needs rows"):
        contact_sheet([])
