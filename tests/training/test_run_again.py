"""The same command again, on a run directory in any state."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.training.conftest import Stopped, adapter_bytes, last_step, stop_at
from tests.training.killed import children_of, start
from topolora_hf.training import progress, setup
from topolora_hf.training.interruption import RunStopped, StopRequest
from topolora_hf.training.run import train

pytestmark = pytest.mark.usefixtures("no_pictures")


def contents(args) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path(args.output_dir).rglob("*") if path.is_file()}


def history(args) -> str:
    return (Path(args.output_dir) / "history.csv").read_text()


@pytest.mark.parametrize(
    "settings",
    [
        {"num_workers": 1},
        {
            "gradient_accumulation_steps": 2,
            "cldice_schedule": "adaptive",
            "preset": "seglab",
            "decoder_init": "scratch",
        },
    ],
    ids=["worker", "accumulating, adaptive, BatchNorm, from scratch"],
)
def test_a_resumed_run_ends_with_the_same_bytes(make_arguments, splits, stock_sam, monkeypatch, settings):
    if settings.get("preset") == "seglab":  # which needs a base without a spatial adapter
        settings = {**settings, "base": stock_sam("small")}
    settings = {"max_steps": 8, "evaluate_every": 3, **settings}
    monkeypatch.setattr(setup, "_STEPS_AN_EPOCH", 5)  # the checkpoint of step 6 is within the second epoch
    through, stopped = make_arguments("through", **settings), make_arguments("stopped", **settings)
    train(through, splits)
    with pytest.raises(Stopped):
        train(stopped, splits, on_step=stop_at(7, 6))
    assert not (Path(stopped.output_dir) / "adapter").exists() and last_step(stopped) == 6
    note = Path(stopped.output_dir) / "checkpoints/00000006/checkpoint.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "seconds": 1000.0}))
    torch.rand(7)  # another process would be in another random state
    assert 1000 < train(stopped, splits)["seconds"] < 2000  # of all its starts
    assert adapter_bytes(stopped) == adapter_bytes(through)
    assert history(stopped) == history(through)


def test_a_finished_run_stays_as_it_is(finished, splits, capsys):
    args, metrics = finished
    before = contents(args)
    assert train(args, splits)["dice"] == metrics["dice"]
    assert "holds this run, finished (scores of 3 images); --overwrite starts it anew" in capsys.readouterr().out
    for change in ({"learning_rate": 0.5}, {"test_time_scales": [0.8, 1.0]}):
        name = next(iter(change))
        with pytest.raises(ValueError, match=f"finished run of other settings: {name} was .*, is .*--overwrite"):
            train(replace(args, **change), splits)
    assert {path for path, content in contents(args).items() if before.get(path) != content} <= {
        Path(args.output_dir) / ".lock"
    }


def test_overwriting_starts_anew_and_leaves_no_network_of_another_kind(make_arguments, splits):
    adapter = make_arguments(max_steps=1)
    train(adapter, splits)
    train(replace(adapter, preset="full", max_steps=2, overwrite=True), splits)
    run = Path(adapter.output_dir)
    assert last_step(adapter) == 2
    assert (run / "network").is_dir() and not (run / "adapter").exists()
    train(replace(adapter, base=str(run / "network"), overwrite=True), splits)
    assert (run / "network").is_dir() and (run / "adapter").is_dir()  # its base


def test_overwriting_removes_nothing_before_there_is_something_to_train(make_arguments, splits):
    args = make_arguments(max_steps=1)
    train(args, splits)
    before = contents(args)
    with pytest.raises(OSError, match="cannot load the base no/such/base"):
        train(replace(args, base="no/such/base", overwrite=True), splits)
    assert contents(args) == before


def test_a_run_is_not_resumed_with_images_that_came_or_went(make_arguments, splits):
    args = make_arguments(max_steps=4)
    with pytest.raises(Stopped):
        train(args, splits, on_step=stop_at(2, 2))
    *kept, last = splits["train"]
    message = f"the train split had 3, has 2; in one alone are {last['id']}. Choose another"
    with pytest.raises(ValueError, match=re.escape(message)):
        train(args, {**splits, "train": kept})
    assert last_step(args) == 2 and train(args, splits)["n"] == 3


def test_a_folder_is_another_run_and_a_named_set_that_moved_is_not():
    assert "data_dir" not in progress.free_settings("folder")
    assert "data_dir" in progress.free_settings("DRIVE")


def test_other_settings_are_refused_before_anything_is_written_and_other_processes_are_not(make_arguments, splits):
    args = make_arguments(max_steps=4)
    with pytest.raises(Stopped):
        train(args, splits, on_step=stop_at(2, 2))
    before = contents(args)
    with pytest.raises(ValueError, match=r"cannot resume .*run with other settings: learning_rate was 0.001, is 0.5"):
        train(replace(args, learning_rate=0.5), splits)
    assert contents(args).keys() == before.keys()
    run = Path(args.output_dir)
    with pytest.raises(ValueError, match=r"tiles of a step were 2, are 4 \(batch_size 2 x .* 1 x 2 processes\)"):
        progress.find_progress(run, args, processes=2)
    assert progress.find_progress(run, replace(args, batch_size=1), processes=2).checkpoint.note["step"] == 2


HOLDING = """
import sys, pathlib, filelock
run = pathlib.Path(sys.argv[1])
lock = filelock.FileLock(run / ".lock")
lock.acquire()
(run / ".holder").write_text("process 4711 on a machine")
print("held", flush=True); sys.stdin.read()
"""


def test_two_runs_in_one_directory_are_one_too_many_until_the_first_is_killed(make_arguments, splits, monkeypatch):
    monkeypatch.setattr(progress, "_PATIENCE_SECONDS", 0.1)
    args = make_arguments(max_steps=1)
    run = Path(args.output_dir)
    run.mkdir()
    command = [sys.executable, "-c", HOLDING, str(run)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError, match="run is in use: process 4711 on a machine trains in it"):
            train(args, splits)
        other.kill()
    train(args, splits)
    assert not (run / ".holder").exists()


def test_data_that_cannot_be_used_leave_no_directory(make_arguments, splits):
    args = make_arguments()
    with pytest.raises(ValueError, match="no train split"):
        train(args, {"test": splits["test"]})
    assert not Path(args.output_dir).exists()


def test_a_signal_stops_after_the_step_with_a_checkpoint(make_arguments, splits):
    handler = signal.getsignal(signal.SIGTERM)
    args = make_arguments(max_steps=4)

    def ask(trainer) -> None:
        if trainer.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(RunStopped, match="stopped after step 3 of 4, with a checkpoint: the same command") as stop:
        train(args, splits, on_step=ask)
    assert stop.value.exit_status == 128 + signal.SIGTERM and signal.getsignal(signal.SIGTERM) is handler
    assert last_step(args) == 3


def test_several_processes_ask_each_other_after_each_eighth_step_and_the_last():
    asked = []

    def of_both(noted: torch.Tensor) -> torch.Tensor:
        asked.append(noted.item())
        return noted + 1  # the other one was asked to stop

    request = StopRequest(SimpleNamespace(num_processes=2, device="cpu", reduce=of_both))
    assert [step for step in range(1, 21) if request.was_made(step, step == 20)] == [8, 16, 20]
    assert asked == [0, 0, 0]


@pytest.mark.slow
def test_a_run_that_is_stopped_ends_even_where_nobody_catches_it(make_arguments):
    """A signal to all its processes leaves those that load data at work, for the last step; then the run ends them."""
    args = make_arguments(num_workers=2, max_steps=10_000)
    run = start(asdict(args), every=1)
    until = time.monotonic() + 120
    while not (Path(args.output_dir) / "checkpoints" / "00000002").exists() and time.monotonic() < until:
        time.sleep(0.01)
    for process in (*children_of(run.pid), run.pid):
        os.kill(process, signal.SIGTERM)
    run.join(60)
    assert run.exitcode == 1
    assert last_step(args) >= 2
