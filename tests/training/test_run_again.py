"""The same command again, on a run directory in any state."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.training.killed import children_of, start
from topolora_hf.commands.score import print_metrics
from topolora_hf.training import loop, progress
from topolora_hf.training.checkpoints import read_checkpoint
from topolora_hf.training.interruption import RunStopped
from topolora_hf.training.run import train

pytestmark = pytest.mark.usefixtures("no_pictures")


def contents(args) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path(args.output_dir).rglob("*") if path.is_file()}


def adapter_bytes(args) -> bytes:
    return (Path(args.output_dir) / "adapter" / "adapter_model.safetensors").read_bytes()


def last_step(args) -> int:
    return read_checkpoint(Path(args.output_dir) / "checkpoints").note["step"]


@pytest.fixture
def at_step(monkeypatch):
    """`at_step(number, do)`: calls `do(trainer)` when that many steps are done, once."""

    def arrange(number: int, do) -> None:
        after_step = loop.Trainer._after_step

        def doing(trainer, bar):
            if trainer.step == number:
                monkeypatch.setattr(loop.Trainer, "_after_step", after_step)
                do(trainer)
            return after_step(trainer, bar)

        monkeypatch.setattr(loop.Trainer, "_after_step", doing)

    return arrange


def test_a_finished_run_stays_as_it_is_until_it_is_overwritten(make_arguments, splits, capsys):
    args = make_arguments()
    metrics = train(args, splits)
    before = contents(args)
    assert train(args, splits)["dice"] == metrics["dice"]
    assert "holds this run, finished; --overwrite True starts it anew" in capsys.readouterr().out
    with pytest.raises(
        ValueError, match="finished run of other settings: learning_rate was 0.001, is 0.5.*--overwrite"
    ):
        train(make_arguments(learning_rate=0.5), splits)
    assert contents(args) == before
    other = train(make_arguments(max_steps=1, overwrite=True), splits)
    assert (other["steps"], last_step(args)) == (1, 1)


def test_a_score_of_one_image_has_no_interval_the_second_time_neither(make_arguments, splits, capsys):
    args = make_arguments()
    for _ in range(2):
        print_metrics(train(args, {**splits, "test": splits["test"][:1]}))
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("dice ")]
        assert "[" not in line


def test_another_folder_is_another_run_and_a_named_set_that_moved_is_not(make_arguments, splits, capsys):
    train(make_arguments(dataset="folder", data_dir="cracks"), splits)
    with pytest.raises(ValueError, match="other settings: data_dir was 'cracks', is 'roads'"):
        train(make_arguments(dataset="folder", data_dir="roads"), splits)
    train(make_arguments("drive", dataset="drive", data_dir="here"), splits)
    train(make_arguments("drive", dataset="drive", data_dir="there"), splits)
    assert "holds this run, finished" in capsys.readouterr().out


def test_an_overwritten_run_leaves_no_network_of_another_kind(make_arguments, splits):
    adapter = make_arguments()
    train(adapter, splits)
    whole = replace(adapter, preset="whole", overwrite=True)
    train(whole, splits)
    run = Path(adapter.output_dir)
    assert (run / "network").is_dir() and not (run / "adapter").exists()
    train(replace(adapter, base=str(run / "network"), overwrite=True), splits)
    assert (run / "network").is_dir() and (run / "adapter").is_dir()  # its base


def test_a_setting_that_a_record_could_not_know_had_its_default(make_arguments, splits, capsys):
    args = make_arguments()
    train(args, splits)
    record = Path(args.output_dir) / "train_args.json"
    older = json.loads(record.read_text())
    assert older.pop("test_time_scales") == [1.0]
    record.write_text(json.dumps(older))
    train(args, splits)
    assert "holds this run, finished" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"test_time_scales was \[1.0\], is \[0.8, 1\]"):
        train(make_arguments(test_time_scales=[0.8, 1]), splits)


def test_scales_of_whole_images_are_refused_before_training(make_arguments, splits):
    with pytest.raises(ValueError, match="test_time_scales=.* are for images cut into tiles"):
        train(make_arguments(dataset="kvasir", test_time_scales=[0.8, 1]), splits)


def test_going_on_with_other_settings_is_refused_before_anything_is_written(make_arguments, splits, interrupt):
    args = make_arguments(max_steps=4, checkpoint_every=2)
    interrupt(args, splits, step=3)
    before = contents(args)
    with pytest.raises(ValueError, match=r"cannot resume .*run with other settings: learning_rate was 0.001, is 0.5"):
        train(make_arguments(max_steps=4, learning_rate=0.5), splits)
    assert contents(args) == before


def test_another_number_of_processes_goes_on_with_the_same_tiles_a_step(make_arguments, splits, interrupt):
    args = make_arguments(max_steps=4, checkpoint_every=2)
    interrupt(args, splits, step=3)
    run = Path(args.output_dir)
    with pytest.raises(ValueError, match=r"tiles of a step were 2, are 4 \(batch_size 2 x .* 1 x 2 processes\)"):
        progress.find_progress(run, args, processes=2)
    fewer = make_arguments(max_steps=4, checkpoint_every=2, batch_size=1)
    assert progress.find_progress(run, fewer, processes=2).checkpoint.note["step"] == 2


def test_resume_asks_for_a_checkpoint(make_arguments, splits):
    with pytest.raises(FileNotFoundError, match="no checkpoint to resume from at .*checkpoints"):
        train(make_arguments(resume=True), splits)
    with pytest.raises(ValueError, match="resume or overwrite, not both"):
        make_arguments(resume=True, overwrite=True)


HOLDING = """
import fcntl, sys
lock = open(sys.argv[1], "a+")
fcntl.lockf(lock, fcntl.LOCK_EX)
lock.write("process 4711 on a machine"); lock.flush()
print("held", flush=True); sys.stdin.read()
"""


def test_two_runs_in_one_directory_are_one_too_many_until_the_first_is_killed(make_arguments, splits):
    args = make_arguments()
    run = Path(args.output_dir)
    run.mkdir()
    command = [sys.executable, "-c", HOLDING, str(run / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError, match="run is in use: process 4711 on a machine trains in it"):
            train(args, splits)
        other.kill()
    train(args, splits)
    with (run / ".lock").open("a+") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_after_the_step_with_a_checkpoint(make_arguments, splits, at_step, number):
    handler = signal.getsignal(number)
    through, stopped = (make_arguments(name, max_steps=4) for name in ("through", "stopped"))
    train(through, splits)
    at_step(3, lambda trainer: os.kill(os.getpid(), number))
    with pytest.raises(RunStopped, match="stopped after step 3 of 4, with a checkpoint: the same command") as stop:
        train(stopped, splits)
    assert stop.value.exit_status == 128 + number and signal.getsignal(number) is handler
    assert last_step(stopped) == 3
    train(stopped, splits)
    assert adapter_bytes(stopped) == adapter_bytes(through)


def test_a_run_that_is_stopped_ends_even_where_nobody_catches_it(make_arguments):
    """A signal to all its processes leaves those that load data at work, for the last step; then the run ends them."""
    args = make_arguments(num_workers=2, max_steps=10_000, checkpoint_every=1)
    run = start(asdict(args))
    until = time.monotonic() + 120
    while not (Path(args.output_dir) / "checkpoints" / "00000002").exists() and time.monotonic() < until:
        time.sleep(0.01)
    for process in (*children_of(run.pid), run.pid):
        os.kill(process, signal.SIGTERM)
    run.join(60)
    assert run.exitcode == 1
    assert last_step(args) >= 2
