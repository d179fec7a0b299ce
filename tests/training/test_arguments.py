import dataclasses

import pytest

from topolora_hf import TrainArguments


def test_only_the_data_set_is_needed_and_the_run_is_named_after_it():
    assert TrainArguments(dataset="drive").output_dir == "runs/drive-topolora-0"
    assert TrainArguments(dataset="path/to/cracks/", seed=2, preset="paper").output_dir == "runs/cracks-paper-2"


def test_tiny_is_the_embedded_base():
    assert TrainArguments(dataset="drive", base="tiny").base == "topolora_hf/tiny"


def test_the_papers_preset_takes_soft_target_skeletons():
    assert TrainArguments(dataset="drive").target_skeleton == "hard"
    assert TrainArguments(dataset="drive", preset="paper").target_skeleton == "soft"
    assert TrainArguments(dataset="drive", preset="paper", target_skeleton="hard").target_skeleton == "hard"


def test_every_setting_has_a_help_text():
    for field in dataclasses.fields(TrainArguments):
        assert field.metadata.get("help"), field.name


@pytest.mark.parametrize(
    "name, value",
    [
        ("max_steps", 0),
        ("batch_size", 0),
        ("gradient_accumulation_steps", 0),
        ("threshold", 1.0),
        ("validation_fraction", -0.1),
        ("mixed_precision", "bf8"),
        ("learning_rate", 0.0),
    ],
)
def test_a_setting_out_of_range_is_named_with_its_value(name, value):
    with pytest.raises(ValueError, match=rf"{name} must be .*{value}"):
        TrainArguments(dataset="drive", **{name: value})
