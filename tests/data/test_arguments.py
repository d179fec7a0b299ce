from dataclasses import dataclass, field, fields

import pytest

from topolora_hf.commands.parser import SettingsParser
from topolora_hf.data.arguments import DataArguments
from topolora_hf.data.errors import DataError
from topolora_hf.data.loading import load_segmentation_data


@dataclass(kw_only=True)
class JobArguments(DataArguments):
    """Some job on a data set."""

    adapter: str = field(metadata={"help": "an adapter"})


def test_every_setting_has_a_help_text():
    assert all(item.metadata.get("help") for item in fields(DataArguments))


def test_flags_reach_the_loader(make_pairs, tmp_path):
    make_pairs(tmp_path, 6, "photos/{n}.png", "traces/t{n}.png")
    flags = ["--dataset", str(tmp_path), "--adapter", "a", "--image_dir", "photos", "--mask_dir", "traces"]
    flags += ["--mask_pattern", "t{stem}.png", "--validation_fraction", "0", "--fov", "none"]
    (args,) = SettingsParser(JobArguments).parse_args_into_dataclasses(flags)
    loaded = args.load()
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 5, "test": 1}
    expected = load_segmentation_data(str(tmp_path), layout=args.layout(), validation_fraction=0)
    assert loaded["test"][0]["id"] == expected["test"][0]["id"]


def test_wrong_flags_are_refused_before_anything_is_read():
    with pytest.raises(DataError, match="mask_pattern must contain"):
        DataArguments(dataset="drive", mask_pattern="mask.png")
