"""Training on several processes is training on one, with the same tiles a step.

Two are forked from the tests' own, so that nothing is imported again; three are started by `accelerate launch` (slow).
"""

import csv
import json
import multiprocessing
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.conftest import without_pictures
from tests.training.conftest import small_settings
from tests.training.several_processes import do, make_splits
from topolora_hf.adapters.loading import load_adapter
from topolora_hf.inference.predictor import Predictor
from topolora_hf.metrics.report import score_image
from topolora_hf.network.segmenter import TopoSamForSegmentation
from topolora_hf.training.checkpoints import read_checkpoint

PROJECT = Path(__file__).resolve().parents[2]
TILES_A_STEP = 6
STEPS = 6
PROCESSES = [2, pytest.param(3, marks=pytest.mark.slow)]


def launch_command(processes: int) -> list[str]:
    """`accelerate launch` with the settings file for CPUs, and that many processes."""
    settings = str(PROJECT / "recipes" / "configs" / "accelerate" / "cpu.yaml")
    launcher = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--config_file", settings]
    return [*launcher, "--num_processes", str(processes), "--main_process_port", "0"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, small_base, stock_sam):
    """`runs(processes)`: what that many processes made of one work list, done once."""
    done = {}

    def run(processes: int) -> Path:
        if processes not in done:
            done[processes] = tmp_path_factory.mktemp(f"processes-{processes}")
            work = _work({"plain": small_base, "seglab": stock_sam("small")}, done[processes], processes)
            start = _forked if processes == 2 and sys.platform == "linux" else _launched
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(os, "environ", dict(os.environ))
                without_pictures(patch)
                do(work) if processes == 1 else start(work, processes)
        return done[processes]

    return run


def _forked(work: dict, processes: int) -> None:
    """Start them with the environment that `accelerate launch` gives them."""
    context = multiprocessing.get_context("fork")
    started = [
        context.Process(target=_as_one_of, args=(rank, processes, work), daemon=True) for rank in range(processes)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(300)
    assert [process.exitcode for process in started] == processes * [0]


def _as_one_of(rank: int, processes: int, work: dict) -> None:
    os.environ |= {"ACCELERATE_USE_CPU": "true", "MASTER_ADDR": "127.0.0.1"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
    do(work)


def _launched(work: dict, processes: int) -> None:
    file = Path(work["scores"]).with_name("work.json")
    file.write_text(json.dumps(work))
    command = [*launch_command(processes), str(Path(__file__).with_name("several_processes.py")), str(file)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    launched = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=300)
    assert launched.returncode == 0, launched.stderr[-3000:]


def _work(bases: dict[str, str], directory: Path, processes: int) -> dict:
    """Two runs. Two processes share out the first's tiles over several batches, too.

    The second has batch norms, parameters that no loss reaches, and a learned objective.
    """
    own = {"plain": {}, "seglab": {"preset": "seglab", "cldice_schedule": "adaptive", "max_steps": 3}}
    common = {"max_steps": STEPS, "batch_size": TILES_A_STEP // processes, "evaluate_every": 100}
    if processes == 2:
        own["plain"] = {"batch_size": 1, "gradient_accumulation_steps": 3}
    runs = [small_settings(bases[name], directory / name, **{**common, **settings}) for name, settings in own.items()]
    (directory / "images").mkdir()
    for number in range(5):
        image = np.full((48, 48, 3), 50 * number, np.uint8)
        Image.fromarray(image).save(directory / "images" / f"{number}.png")
    TopoSamForSegmentation.from_pretrained(bases["seglab"], tile_size=48).save_pretrained(directory / "network")
    places = {name: str(directory / name) for name in ("network", "images", "masks")}
    return {"runs": runs, "ports": [_free_port() for _ in runs], "scores": str(directory / "scores.json"), **places}


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


def history(run: Path, *names: str) -> np.ndarray:
    with (run / "history.csv").open() as file:
        return np.array([[float(row[name] or "nan") for name in names] for row in csv.DictReader(file) if row["loss"]])


@pytest.mark.parametrize("processes", PROCESSES)
def test_the_losses_of_every_step_are_those_of_one_process(runs, processes):
    terms = ("loss", "bce", "dice_loss", "cldice_loss")
    one, several = (history(runs(number) / "plain", *terms) for number in (1, processes))
    assert one.shape == (STEPS, 4) and np.isfinite(one[1:]).all()
    assert np.isnan(one[0]).tolist() == [False, False, False, True]  # the clDice weight rises from 0
    np.testing.assert_allclose(several, one, atol=1e-6)


@pytest.mark.parametrize("processes", PROCESSES)
def test_the_parameters_are_those_of_one_process(runs, processes):
    one, several = (
        load_file(runs(number) / "plain" / "checkpoints" / f"{STEPS:08}" / "trained.safetensors")
        for number in (1, processes)
    )
    assert one.keys() == several.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(several[name], tensor, rtol=0, atol=1e-5, msg=name)


@pytest.mark.parametrize("processes", PROCESSES)
def test_seven_images_have_the_same_scores_to_the_row(runs, processes):
    one, several = (json.loads((runs(number) / "scores.json").read_text())["rows"] for number in (1, processes))
    assert [row["id"] for row in one] == [f"image{number}" for number in range(7)]
    assert several == one


@pytest.mark.parametrize("processes", PROCESSES)
def test_every_process_scores_with_what_was_saved_and_the_schedule_is_that_of_one(runs, processes, stock_sam):
    run = runs(processes) / "seglab"
    predictor = Predictor(load_adapter(run / "adapter", base=stock_sam("small")))
    with (run / "per_image.csv").open() as file:
        scored = list(csv.DictReader(file))
    for row, sample in zip(scored, make_splits()["test"], strict=True):
        error = score_image(predictor.probability(sample["image"]), sample["mask"][0])["ece"]
        assert row["id"] == sample["id"] and float(row["ece"]) == pytest.approx(error, abs=1e-6)
    assert history(run, "learning_rate").ravel() == pytest.approx([7.5e-4, 2.5e-4, 0])
    assert read_checkpoint(run / "checkpoints").note["processes"] == processes


@pytest.mark.parametrize("processes", PROCESSES)
def test_predicting_shares_the_images_between_the_processes(runs, processes):
    masks = (runs(processes) / "masks").glob("*_mask.png")
    assert sorted(path.name for path in masks) == [f"{number}_mask.png" for number in range(5)]
