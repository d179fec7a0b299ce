from dataclasses import dataclass, field, fields

import pytest

from topolora_hf.commands.parser import SettingsParser
from topolora_hf.data.arguments import DataArguments
from topolora_hf.data.records import Layout


@dataclass(kw_only=True)
class JobArguments(DataArguments):
    """Some job on a data set."""

    adapter: str = field(metadata={"help": "an adapter"})


def test_every_setting_has_a_help_text_and_the_group_data():
    assert all(item.metadata["help"] and item.metadata["group"] == "data" for item in fields(DataArguments))


def test_flags_reach_the_loader(make_pairs, tmp_path):
    make_pairs(tmp_path, 6, "photos/{n}.png", "traces/t{n}.png")
    flags = ["--dataset", str(tmp_path), "--adapter", "a", "--layout", "image_dir=photos", "mask_dir=traces"]
    flags += ["mask_pattern=t{stem}.png", "--validation_fraction", "0", "--fov", "none"]
    (args,) = SettingsParser(JobArguments).parse_args_into_dataclasses(flags)
    assert {split: len(rows) for split, rows in args.load().items()} == {"train": 5, "test": 1}


@pytest.mark.parametrize(
    ("name", "text"),
    [("l.yaml", "image_dir: photos\nmask_dir: gt\n"), ("l.json", '{"image_dir": "photos", "mask_dir": "gt"}')],
)
def test_a_layout_may_be_a_file(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    args = DataArguments(dataset="folder", layout=[str(tmp_path / name)])
    assert args.read_layout() == Layout(image_dir="photos", mask_dir="gt")


def test_intensity_is_a_transform_and_two_percentiles():
    args = DataArguments(dataset="folder", intensity=["transform=sqrt", "high=99"])
    assert args.read_intensity() == ("sqrt", (0.5, 99.0))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"layout": ["mask_pattern=mask.png"]}, "mask_pattern must contain"),
        ({"layout": ["masks=gt"]}, "unknown key 'masks'; allowed: image_dir, mask_dir"),
        ({"layout": ["image_dir=a", "image_dir=b"]}, "'image_dir=b' is given twice"),
        ({"layout": ["image_dir=a", "gt"]}, "'gt' is not of the form key=value"),
        ({"layout": ["none.yaml"]}, "neither key=value nor a YAML or JSON file"),
        ({"intensity": ["transform=cube"]}, "transform must be linear or sqrt or log, got 'cube'"),
        ({"intensity": ["low=99", "high=1"]}, "0 <= low < high <= 100, got 99.0 and 1.0"),
        ({"intensity": ["low=dark"]}, "low and high must be numbers"),
        ({"mask_values": ["red"]}, "'red' is no value of a mask; allowed: a number"),
        ({"mask_values": ["1"], "invert_masks": True}, "give one of them"),
        ({"missing_mask": "skip"}, "missing_mask must be error or empty"),
        ({"annotator": 3}, "annotator must be 1 or 2, got 3"),
        ({"protocol": "old"}, "protocol must be native or paper"),
        ({"validation_fraction": 1}, "validation_fraction must be at least 0 and below 1"),
    ],
)
def test_wrong_flags_are_refused_before_anything_is_read(wrong, message):
    with pytest.raises(ValueError, match=message):
        DataArguments(dataset="drive", **wrong)
