"""Training on several processes is training on one, with the same tiles a step."""

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from tests.training.several_processes import do
from topolora_hf.network.segmenter import TopoSamForSegmentation

PROJECT = Path(__file__).resolve().parents[2]
TILES_A_STEP = 6
STEPS = 10


def launch_command(processes: int) -> list[str]:
    """`accelerate launch` with the settings file for CPUs, and that many processes."""
    settings = str(PROJECT / "recipes" / "configs" / "accelerate" / "cpu.yaml")
    launcher = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--config_file", settings]
    return [*launcher, "--num_processes", str(processes), "--main_process_port", "0"]


def launch(processes: int, *command: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    return subprocess.run(
        [*launch_command(processes), *command],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory, stock_sam):
    """`runs(processes)`: what that many processes made of one work list, done once."""
    done = {}

    def run(processes: int) -> Path:
        if processes not in done:
            done[processes] = tmp_path_factory.mktemp(f"processes-{processes}")
            work = _work(stock_sam("small"), done[processes], processes)
            if processes == 1:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(os, "environ", dict(os.environ))
                    do(work)
            else:
                (done[processes] / "work.json").write_text(json.dumps(work))
                script = str(PROJECT / "tests" / "training" / "several_processes.py")
                launched = launch(processes, script, str(done[processes] / "work.json"))
                assert launched.returncode == 0, launched.stderr[-3000:]
        return done[processes]

    return run


def _work(base: str, directory: Path, processes: int) -> dict:
    common = {"dataset": "crosses", "base": base, "image_size": 64, "tile_size": 48, "detail_channels": 4}
    common |= {"num_workers": 0, "num_threads": 1, "mixed_precision": "no", "log_every": 1, "score_untrained": False}
    common |= {"learning_rate": 1e-3, "max_steps": STEPS, "evaluate_every": 100}
    common |= {"ema_decay": 0.5, "batch_size": TILES_A_STEP // processes}
    runs = [{**common, "output_dir": str(directory / name), "float64": name == "float64"} for name in PRECISIONS]
    return {"runs": runs, "ports": [_free_port() for _ in runs], "scores": str(directory / "scores.json")}


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


PRECISIONS = ("float64", "float32")


def losses(directory: Path) -> np.ndarray:
    with (directory / "history.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["loss"]]
    terms = ("loss", "bce", "dice_loss", "cldice_loss")
    return np.array([[float(row[name] or "nan") for name in terms] for row in rows])


@pytest.mark.parametrize("processes", [2, 3])
def test_in_float64_the_parameters_are_those_of_one_process(runs, processes):
    one, several = (
        load_file(runs(number) / "float64" / "checkpoints" / f"{STEPS:08}" / "trained.safetensors")
        for number in (1, processes)
    )
    assert one.keys() == several.keys()
    for name, tensor in one.items():
        assert np.abs(tensor.double().numpy() - several[name].double().numpy()).max() <= 1e-9, name


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_losses_of_every_step_are_those_of_one_process(runs, processes, precision):
    one, several = (losses(runs(number) / precision) for number in (1, processes))
    assert one.shape == (STEPS, 4) and np.isfinite(one[1:]).all()
    assert np.isnan(one[0]).tolist() == [False, False, False, True]  # the clDice weight rises from 0
    np.testing.assert_allclose(several, one, rtol=1e-5 if precision == "float32" else 1e-10)


@pytest.mark.parametrize("processes", [2, 3])
def test_seven_images_have_the_same_scores_to_the_row(runs, processes):
    one, several = (json.loads((runs(number) / "scores.json").read_text())["rows"] for number in (1, processes))
    assert [row["id"] for row in one] == [f"image{number}" for number in range(7)]
    assert several == one


def test_pretraining_makes_one_base_of_several_processes(stock_sam, tmp_path):
    small = ("--base", stock_sam("small"), "--image_size", "64", "--tile_size", "48", "--picture_size", "64")
    short = ("--images", "4", "--max_steps", "2", "--batch_size", "2", "--sam_dropout", "0.5", "--num_workers", "0")
    recipe = str(PROJECT / "recipes" / "pretrain_tiny.py")
    launched = launch(2, recipe, *small, *short, "--score_untrained", "False", "--output_dir", str(tmp_path))
    assert launched.returncode == 0, launched.stderr[-3000:]
    assert (tmp_path / "network" / "model.safetensors").exists()


def test_predicting_shares_the_images_between_the_processes(stock_sam, tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(5):
        Image.fromarray(np.full((48, 48, 3), 50 * number, np.uint8)).save(tmp_path / "images" / f"{number}.png")
    TopoSamForSegmentation.from_pretrained(stock_sam("small"), tile_size=48).save_pretrained(tmp_path / "network")
    recipe = str(PROJECT / "recipes" / "predict.py")
    files = ("--adapter", str(tmp_path / "network"), "--images", str(tmp_path / "images"))
    launched = launch(2, recipe, *files, "--output_dir", str(tmp_path / "masks"))
    assert launched.returncode == 0, launched.stderr[-3000:]
    assert sorted(path.name for path in (tmp_path / "masks").glob("*_mask.png")) == [f"{n}_mask.png" for n in range(5)]
    assert "0 of 3 masks" in launched.stdout and "0 of 2 masks" in launched.stdout
