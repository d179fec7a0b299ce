import dataclasses
from pathlib import Path

import pytest

from topolora_hf.commands.parser import SettingsParser, expand_settings_file
from topolora_hf.training.arguments import TrainArguments

PAPER = Path(__file__).resolve().parents[2] / "recipes" / "configs" / "paper.yaml"


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
        ("epochs", 0.0),
        ("ema_decay", 1.0),
        ("decoder_init", "zeros"),
        ("coarse_weight", -0.5),
        ("sam_dropout", -0.5),
        ("sam_dropout", 1.0),
        ("sam_dropout", float("nan")),
        ("zoom", 0.8),
        ("zoom", float("inf")),
        ("noise", -0.01),
        ("noise", float("nan")),
        ("learning_rate", float("inf")),
        ("detail_learning_rate", float("nan")),
        ("epochs", float("inf")),
        ("max_grad_norm", 0.0),
        ("weight_decay", -0.1),
        ("cldice_weight", float("nan")),
        ("num_threads", 0),
        ("num_workers", -1),
        ("skeleton_iterations", -1),
        ("view", "crops"),
    ],
)
def test_a_setting_out_of_range_is_named_with_its_value(name, value):
    with pytest.raises(ValueError, match=rf"{name} must be .*{value}"):
        TrainArguments(dataset="drive", **{name: value})


@pytest.mark.parametrize(
    "settings", [{"preset": "detail_only"}, {"preset": "paper"}, {"preset": "topolora", "detail_channels": 0}]
)
def test_a_weight_for_a_mask_that_nobody_corrects_is_refused(settings):
    with pytest.raises(ValueError, match=f"coarse_weight is for SAM's mask .* preset '{settings['preset']}'"):
        TrainArguments(dataset="drive", coarse_weight=0.5, **settings)


@pytest.mark.parametrize(
    "settings", [{"preset": "detail_only"}, {"preset": "paper"}, {"preset": "topolora", "detail_channels": 0}]
)
def test_sam_cannot_be_left_out_of_some_tiles_where_nothing_else_sees_them(settings):
    with pytest.raises(ValueError, match=f"sam_dropout is for SAM beside .* preset '{settings['preset']}'"):
        TrainArguments(dataset="drive", sam_dropout=0.5, **settings)


@pytest.mark.parametrize("dropout, batch_size", [(0.5, 1), (0.5, 3), (0.9, 4)])
def test_sam_is_left_a_whole_number_of_a_batchs_tiles(dropout, batch_size):
    with pytest.raises(ValueError, match=f"sam_dropout must .* a batch's {batch_size} tiles, got {dropout}"):
        TrainArguments(dataset="drive", sam_dropout=dropout, batch_size=batch_size)


@pytest.mark.parametrize("other", [{"coarse_weight": 0.5}, {"auto_batch_size": True}])
def test_what_needs_sam_to_see_every_tile_does_not_go_with_sam_dropout(other):
    with pytest.raises(ValueError, match="sam_dropout goes neither with coarse_weight nor with auto_batch_size"):
        TrainArguments(dataset="drive", sam_dropout=0.5, **other)


@pytest.mark.parametrize("settings", [{"preset": "paper"}, {"preset": "topolora", "detail_channels": 0}])
def test_a_detail_branch_that_is_not_there_sees_no_further(settings):
    with pytest.raises(ValueError, match=f"detail_context is for a detail branch; preset '{settings['preset']}'"):
        TrainArguments(dataset="drive", detail_context=True, **settings)


@pytest.mark.parametrize("name", ["rank", "lora_layers"])
def test_a_base_trained_whole_has_no_lora_to_set(name):
    with pytest.raises(ValueError, match=f"preset 'whole' trains the base itself, .* no use for .*{name} 4"):
        TrainArguments(dataset="drive", preset="whole", **{name: 4})


@pytest.mark.parametrize("settings", [{"zoom": 1.0}, {"noise": 0.0}])
def test_an_augmentation_that_is_off_cannot_be_tuned(settings):
    with pytest.raises(ValueError, match="have no use without augmentation"):
        TrainArguments(dataset="drive", augmentation=False, **settings)


def test_a_run_is_as_long_as_its_steps_or_its_epochs_say():
    assert TrainArguments(dataset="drive").max_steps == 2500
    assert TrainArguments(dataset="drive", max_steps=7).max_steps == 7
    assert TrainArguments(dataset="drive", epochs=0.5).max_steps is None
    with pytest.raises(ValueError, match="give max_steps or epochs, not both; got 7 and 2.0"):
        TrainArguments(dataset="drive", max_steps=7, epochs=2.0)


def test_the_papers_settings_file_trains_as_the_paper_says():
    flags = [*expand_settings_file([str(PAPER)]), "--dataset", "drive"]
    (args,) = SettingsParser(TrainArguments).parse_args_into_dataclasses(flags)
    paper = {
        "preset": "paper",
        "protocol": "paper",
        "decoder_init": "sam",
        "epochs": 50,
        "batch_size": 1,
        "gradient_accumulation_steps": 4,
        "learning_rate": 1e-4,
        "weight_decay": 1e-4,
        "warmup_fraction": 0,
        "max_grad_norm": 1,
        "mixed_precision": "fp16",
        "cldice_weight": 0.5,
        "cldice_schedule": "fixed",
        "target_skeleton": "soft",
        "skeleton_iterations": 9,
    }
    given = {flag.removeprefix("--") for flag in flags if flag.startswith("--")}
    assert given == {"dataset", *paper} <= {field.name for field in dataclasses.fields(TrainArguments)}
    assert {name: getattr(args, name) for name in paper} == paper
