import dataclasses
import json
from pathlib import Path

import pytest

from topolora_hf.commands.parser import SettingsParser, expand_settings_file
from topolora_hf.data.arguments import DataArguments
from topolora_hf.objective.losses import TopoLoss
from topolora_hf.training.arguments import TrainArguments

CONFIGS = Path(__file__).resolve().parents[2] / "recipes" / "configs"


def test_only_the_data_set_is_needed_and_the_run_is_named_after_it():
    assert TrainArguments(dataset="drive").output_dir == "runs/drive-topolora-0"
    assert TrainArguments(dataset="path/to/cracks/", seed=2, preset="paper").output_dir == "runs/cracks-paper-2"


def test_settings_are_few_and_each_has_a_help_and_a_group():
    fields = dataclasses.fields(TrainArguments)
    of_data = {field.name for field in dataclasses.fields(DataArguments)}
    assert len([field for field in fields if field.name not in of_data]) <= 34
    for field in fields:
        assert field.metadata["help"] and field.metadata["group"], field.name


@pytest.mark.parametrize(
    ("settings", "preset"),
    [
        ({}, "topolora"),
        ({"base": "tiny"}, "detail_only"),
        ({"base": "tiny", "view": "full"}, "topolora"),
        ({"base": "tiny", "dataset": "kvasir"}, "topolora"),
        ({"base": "tiny", "dataset": "Angelou0516/kvasir-seg"}, "topolora"),
        ({"base": "tiny", "dataset": "someone/kvasir"}, "detail_only"),
        ({"base": "tiny", "dataset": "kvasir", "view": "tiles"}, "detail_only"),
        ({"base": "tiny-regions"}, "topolora"),
        ({"base": "tiny", "preset": "paper"}, "paper"),
        ({"base": "merged"}, "detail_only"),
    ],
)
def test_the_preset_is_the_bases_recommendation_unless_it_is_given(settings, preset, tmp_path):
    (tmp_path / "topolora_config.json").write_text(json.dumps({"base": "", "preset": "detail_only"}))
    if settings.get("base") == "merged":
        settings = {"base": str(tmp_path)}
    assert TrainArguments(**{"dataset": "drive", **settings}).preset == preset


def test_the_papers_preset_takes_soft_target_skeletons():
    assert TrainArguments(dataset="drive").target_skeleton == "hard"
    assert TrainArguments(dataset="drive", preset="paper").target_skeleton == "soft"


def test_every_limited_setting_is_checked():
    checked = 0
    for field in dataclasses.fields(TrainArguments):
        meta = field.metadata
        wrong = []
        if "choices" in meta:
            wrong.append("nonsense")
        if "at_least" in meta or "above" in meta:
            wrong += [meta.get("at_least", meta.get("above")) - 1, float("nan")]
        if "below" in meta:
            wrong.append(meta["below"])
        for value in wrong:
            value = [value] if field.type == list[float] else value
            with pytest.raises(ValueError, match=field.name):
                TrainArguments(**{"dataset": "drive", field.name: value})
            checked += 1
    assert checked > 40


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": "detail_only", "rank": 4}, "preset 'detail_only' has no LoRA: rank 4"),
        ({"preset": "full", "lora": "dora"}, "preset 'full' has no LoRA"),
        ({"preset": "detail_only", "decoder_init": "scratch"}, "'detail_only' does not train the decoder"),
        ({"protocol": "paper", "view": "tiles"}, "protocol paper decides the view"),
        ({"protocol": "paper", "calibrate": "train"}, "scores no training images"),
        ({"hub_model_id": "me/x"}, "hub_model_id is for runs with push_to_hub"),
        ({"preset": "full", "push_to_hub": True}, "publishes adapters, and preset 'full' trains none"),
        ({"push_to_hub": True, "output_dir": "runs/a b"}, "'a b' cannot be a repository's name"),
    ],
)
def test_settings_that_do_not_go_together_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainArguments(dataset="drive", **settings)


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_settings_file_is_understood(file):
    flags = expand_settings_file([str(file), "--dataset", "drive"])
    (args,) = SettingsParser(TrainArguments).parse_args_into_dataclasses(flags)
    if file.stem == "paper":
        assert (args.preset, args.protocol, args.cldice_schedule) == ("paper", "paper", "fixed")
        assert args.max_steps is None and args.learning_rate == args.weight_decay == 1e-4


def test_the_settings_of_a_run_are_a_settings_file(tmp_path):
    args = TrainArguments(dataset="drive", base="tiny", test_time_scales=[0.5, 1.0], max_steps=5)
    (tmp_path / "train_args.json").write_text(json.dumps(dataclasses.asdict(args)))
    (again,) = SettingsParser(TrainArguments).parse_args_into_dataclasses([str(tmp_path / "train_args.json")])
    assert again == args


def test_the_objectives_settings_are_those_of_the_arguments():
    fields = {field.name: field for field in dataclasses.fields(TrainArguments)}
    for schedule in fields["cldice_schedule"].metadata["choices"]:
        TopoLoss(schedule=schedule)
