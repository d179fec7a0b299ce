"""kill -9, and the same command again: the end is the same to the byte.

python -m pytest tests/training/test_kills.py -m slow -s
"""

import random
import shutil
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.training.killed import crosses, start
from topolora_hf.training.arguments import TrainArguments
from topolora_hf.training.checkpoints import read_checkpoint
from topolora_hf.training.run import train

PATIENCE = 120


@pytest.fixture
def settings(make_arguments, stock_sam):
    """`settings(name)`: a run of twelve steps with four validations and six checkpoints."""

    def make(name: str, **changes) -> dict:
        return asdict(make_arguments(name, max_steps=12, evaluate_every=3, **changes))

    return make


def finish(settings: dict) -> tuple[bytes, bytes]:
    """Trains to the end: the bytes of the adapter and of the history."""
    process = start(settings)
    process.join(PATIENCE)
    assert process.exitcode == 0
    run = Path(settings["output_dir"])
    return (run / "adapter" / "adapter_model.safetensors").read_bytes(), (run / "history.csv").read_bytes()


def kill_at(settings: dict, moment: str, number: int) -> None:
    process = start(settings, moment, number)
    marker = Path(settings["output_dir"], "moment")
    until = time.monotonic() + PATIENCE
    while not marker.exists() and process.is_alive() and time.monotonic() < until:
        time.sleep(0.005)
    assert marker.exists()
    process.kill()
    process.join(PATIENCE)


def kill_after(settings: dict, seconds: float) -> bool:
    """Kills after a time; False where the run was faster."""
    process = start(settings)
    process.join(seconds)
    alive = process.is_alive()
    process.kill()
    process.join(PATIENCE)
    return alive


def test_a_run_killed_in_a_checkpoint_ends_with_the_same_bytes(settings, no_pictures):
    """The short form: what is not killed runs in the tests' own process."""
    short = {"max_steps": 4, "evaluate_every": 100}
    through, killed = settings("through"), settings("killed", num_workers=1)
    run = Path(killed["output_dir"])
    kill_at({**killed, **short}, "checkpoint", 22)
    assert not (run / "metrics.json").exists()
    assert read_checkpoint(run / "checkpoints").note["step"] == 2
    for one in (through, killed):
        train(TrainArguments(**{**one, **short}), crosses())
    for file in ("adapter/adapter_model.safetensors", "history.csv"):
        assert (run / file).read_bytes() == Path(through["output_dir"], file).read_bytes()


@pytest.mark.slow
def test_twenty_kills_at_random_moments_each_end_with_the_same_bytes(settings):
    rng = random.Random(0)
    expected = finish(settings("through"))
    started = time.monotonic()
    assert finish(settings("again")) == expected
    seconds = time.monotonic() - started  # without what the first process had to import
    same, killed, resumed_from = 0, 0, []
    for number in range(20):
        one = settings(f"killed-{number}", num_workers=number % 2)
        kind = ("anywhere", "step", "checkpoint", "validation")[number % 4]
        if kind == "anywhere":
            while not kill_after(one, rng.uniform(0.2, 0.9) * seconds):  # it was faster this time
                shutil.rmtree(one["output_dir"])
        else:
            kill_at(one, kind, rng.randint(1, {"step": 12, "checkpoint": 40, "validation": 4}[kind]))
        killed += 1
        found = read_checkpoint(Path(one["output_dir"]) / "checkpoints")
        resumed_from.append((kind, None if found is None else found.note["step"]))
        same += finish(one) == expected
        print(f"{number}: {kind}, gone on after {resumed_from[-1][1]}; {same} the same so far", flush=True)
        shutil.rmtree(one["output_dir"])
    print(f"\n{killed} killed, {same} of 20 with the same bytes; gone on after: {resumed_from}")
    assert same == killed == 20
