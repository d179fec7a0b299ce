"""Jobs done in the tests' own process, on a data set of a few small images."""

import json
from dataclasses import asdict

import pytest

from topolora_hf.training.arguments import TrainArguments
from topolora_hf.commands.score import ScoreArguments
from engine import worker
from topolora_hf.files import write_json

FEW = {"base": "tiny-random", "tile_size": 64, "image_size": 64, "max_steps": 2, "batch_size": 1, "num_workers": 0}
FEW |= {"num_threads": 1, "mixed_precision": "no", "score_untrained": False}


@pytest.fixture
def work(tmp_path):
    """`work(command, arguments)` -> metrics.json and resources.json."""

    def do(command: str, arguments) -> tuple[dict, dict]:
        directory = tmp_path / arguments.output_dir
        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / "job.json", {**asdict(arguments), "output_dir": str(directory)})
        worker.run_worker(command, directory / "job.json")
        return tuple(json.loads((directory / f"{name}.json").read_text()) for name in ("metrics", "resources"))

    return do


def test_a_trained_run_is_scored_on_all_images_of_another_set(crosses, work, tmp_path):
    metrics, resources = work("train", TrainArguments(dataset=str(crosses), output_dir="run", **FEW))
    assert metrics["n"] == 1 and resources["seconds_per_step"] > 0 and resources["seconds_per_tile"] > 0
    assert resources["saved_bytes"] == (tmp_path / "run/adapter/adapter_model.safetensors").stat().st_size
    arguments = ScoreArguments(dataset=str(crosses), adapter=str(tmp_path / "run/adapter"), part="all", output_dir="on")
    scores, resources = work("score", arguments)
    assert (scores["n"], scores["split"]) == (7, "all")
    assert resources["seconds_per_step"] is None and "saved_bytes" not in resources


def test_a_base_is_scored_as_it_comes(crosses, work):
    settings = {**FEW, "score_untrained": True}
    before, _ = work("train", TrainArguments(dataset=str(crosses), output_dir="run", **settings))
    scores, _ = work("score_base", TrainArguments(dataset=str(crosses), output_dir="base", **FEW))
    assert (scores["dice"], scores["cldice"]) == (before["dice_before"], before["cldice_before"])
    assert scores["steps"] == 0


def test_a_specialist_has_a_file_and_a_time_too(crosses, work, tmp_path):
    few = {name: value for name, value in FEW.items() if name not in ("base", "image_size")}
    _, resources = work("train", TrainArguments(dataset=str(crosses), network="unet", output_dir="run", **few))
    assert resources["seconds_per_tile"] > 0
    assert resources["saved_bytes"] == (tmp_path / "run/network/model.safetensors").stat().st_size
