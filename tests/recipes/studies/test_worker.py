"""Jobs done in the tests' own process, on a data set of a few small images."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine import worker
from engine.arguments import RunArguments
from topolora_hf.commands.score import ScoreArguments
from topolora_hf.data.errors import DataError
from topolora_hf.data.rows import SegmentationData
from topolora_hf.files import write_json
from topolora_hf.training.arguments import TrainArguments

pytestmark = pytest.mark.usefixtures("no_pictures")

FEW = {"base": "tiny-random", "tile_size": 64, "max_steps": 2, "batch_size": 1, "num_workers": 0}
FEW |= {"num_threads": 1, "mixed_precision": "no"}


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


def test_a_trained_adapter_is_scored_on_all_images_of_another_set(crosses, work, tmp_path):
    args = RunArguments(dataset=str(crosses), output_dir="run", image_size=64, train_images=2, **FEW)
    metrics, resources = work("train", args)
    assert metrics["n"] == 1 and resources["seconds_per_step"] > 0 and resources["seconds_per_tile"] > 0
    assert resources["saved_bytes"] == (tmp_path / "run/adapter/adapter_model.safetensors").stat().st_size
    args = ScoreArguments(dataset=str(crosses), adapter=str(tmp_path / "run/adapter"), part="all", output_dir="on")
    scores, resources = work("score", args)
    assert (scores["n"], scores["split"]) == (7, "all")
    assert resources["seconds_per_step"] is None and "saved_bytes" not in resources


def test_a_trained_baseline_has_the_files_and_the_scores_of_a_run(crosses, work, tmp_path):
    args = RunArguments(dataset=str(crosses), network="unet_small", output_dir="run", **FEW)
    metrics, resources = work("train_baseline", args)
    assert (metrics["preset"], metrics["base"]) == ("unet_small", None)
    assert metrics["trainable_parameters"] == metrics["total_parameters"] == pytest.approx(5e5, rel=0.02)
    assert resources["seconds_per_tile"] > 0
    assert resources["saved_bytes"] == (tmp_path / "run/network/model.safetensors").stat().st_size
    assert not (tmp_path / "run/adapter").exists()
    scores, _ = work("score_baseline", ScoreArguments(dataset=str(crosses), adapter=str(tmp_path / "run/network")))
    assert scores["dice"] == pytest.approx(metrics["dice"], abs=1e-6)


def test_a_baselines_initial_weights_follow_the_seed(crosses, work, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        args = RunArguments(dataset=str(crosses), network="unet_small", seed=seed, output_dir=name, **FEW)
        work("train_baseline", args)
    a, b, c = (load_file(tmp_path / name / "network/model.safetensors") for name in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a | b)  # not the bytes: a header's metadata are in no order
    assert not all(torch.equal(a[key], c[key]) for key in a)


def test_a_base_is_scored_as_it_comes(crosses, work):
    scores, resources = work("score_base", RunArguments(dataset=str(crosses), output_dir="base", **FEW))
    assert (scores["steps"], scores["n"], scores["base"]) == (0, 1, "topolora_hf/tiny-random")
    assert 0 <= scores["dice"] <= 1 and resources["seconds_per_step"] is None


def ids_of(dataset, train_images=None, seed=0) -> dict:
    args = RunArguments(dataset=str(dataset), train_images=train_images, seed=seed)
    return {split: list(rows["id"]) for split, rows in (worker.chosen_data(args) or args.load()).items()}


def test_more_training_images_hold_the_fewer_and_seeds_draw_others(crosses):
    everything = ids_of(crosses)
    drawn = {count: ids_of(crosses, count) for count in (1, 2, 4)}
    assert [len(ids["train"]) for ids in drawn.values()] == [1, 2, 4]
    assert set(drawn[1]["train"]) < set(drawn[2]["train"]) < set(drawn[4]["train"]) < set(everything["train"])
    assert all(ids[split] == everything[split] for ids in drawn.values() for split in ("validation", "test"))
    assert len({ids_of(crosses, 1, seed)["train"][0] for seed in range(6)}) > 1


def test_the_images_drawn_are_those_of_studies_before(crosses):
    """The first of one permutation, in the data set's order: published tables name their images by seed alone."""
    everything = ids_of(crosses)["train"]
    first = sorted(np.random.default_rng(3).permutation(len(everything))[:2])
    assert ids_of(crosses, 2, 3)["train"] == [ids_of(crosses, None, 3)["train"][number] for number in first]


def test_more_images_than_there_are_is_an_error(crosses):
    with pytest.raises(DataError, match=r"train_images is 20, data set .*crosses has 5 training images"):
        ids_of(crosses, 20)
    with pytest.raises(ValueError, match="train_images must be at least 1, got 0"):
        RunArguments(dataset="drive", train_images=0)


def test_a_scaling_that_all_training_images_decided_is_refused(monkeypatch):
    data = SegmentationData({"train": [0, 1, 2], "test": [0]})
    data.intensity = object()
    monkeypatch.setattr(TrainArguments, "load", lambda self: data)
    with pytest.raises(DataError, match="scaling was fitted on all training images"):
        worker.chosen_data(RunArguments(dataset="radar", train_images=1))
