"""What happens to runs: disks, memory, images and numbers that fail. docs/explanation/faults.md lists it."""

import math
import os
import resource
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from tests.training.conftest import last_step
from topolora_hf.data.errors import DataError
from topolora_hf.training.numerics import StepCheck
from topolora_hf.training.progress import alone_in
from topolora_hf.training.run import train

pytestmark = pytest.mark.usefixtures("no_pictures")


def at_step(number: int, do, checkpoints: bool = True):
    """A hook that writes a checkpoint after each step, and calls `do()` after that step."""

    def on_step(trainer) -> None:
        if checkpoints:
            trainer.write_checkpoint()
        if trainer.step == number:
            do()

    return on_step


def limit_files(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_a_disk_that_takes_no_more_leaves_the_last_checkpoint_and_the_run_resumes_later(make_arguments, splits):
    args = make_arguments(max_steps=4)
    try:
        with pytest.raises(OSError, match="cannot write a checkpoint to .* after step 3: .*File too large.* of step 2"):
            train(args, splits, on_step=at_step(2, lambda: limit_files(20_000)))
    finally:
        limit_files(resource.RLIM_INFINITY)
    assert last_step(args) == 2 and not (Path(args.output_dir) / "adapter").exists()
    train(args, splits)


def test_a_directory_that_is_removed_ends_the_run_with_its_name(make_arguments, splits):
    args = make_arguments(max_steps=4)
    with pytest.raises(OSError, match="cannot write history.csv to .*run after step 2: .*No such file.*no checkpoint"):
        train(args, splits, on_step=at_step(1, lambda: shutil.rmtree(args.output_dir), checkpoints=False))


def test_a_read_only_directory_is_refused_before_training():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        user = os.geteuid()
        if user == 0:  # who may write anywhere
            os.seteuid(65534)
        try:
            with pytest.raises(PermissionError, match=f"Permission denied: '{folder}/run'"):
                with alone_in(Path(folder, "run"), Accelerator(cpu=True)):
                    pass
        finally:
            os.seteuid(user)
            os.chmod(folder, 0o755)


def test_an_image_that_is_deleted_during_training_is_named(make_arguments, make_rows, tmp_path):
    for split, count, first in (("train", 2, 0), ("validation", 1, 2), ("test", 1, 3)):
        for row in make_rows(count, first=first):
            for kind, array in (("images", row["image"]), ("masks", row["mask"][0] * 255)):
                folder = tmp_path / "data" / split / kind
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(folder / f"{row['id']}.png")
    args = make_arguments(dataset=str(tmp_path / "data"))
    deleted = tmp_path / "data" / "validation" / "images" / "image2.png"
    kept = deleted.read_bytes()
    with pytest.raises((DataError, OSError), match="image2.png"):
        train(args, on_step=at_step(1, deleted.unlink))
    deleted.write_bytes(kept)
    assert last_step(args) == 1
    train(args)


def test_a_killed_process_that_loads_data_is_said(make_arguments, splits):
    def fail(trainer) -> None:
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

    with pytest.raises(ChildProcessError, match="a process that loads data was killed.* fewer num_workers"):
        train(make_arguments(), splits, on_step=fail)


def with_nan(splits: dict, number: int) -> dict:
    rows = [dict(row) for row in splits["train"]]
    rows[number]["image"] = rows[number]["image"].astype(np.float32)
    rows[number]["image"][...] = math.nan
    return {**splits, "train": rows}


@pytest.mark.parametrize("settings", [{"log_every": 100}, {"log_every": 100, "evaluate_every": 1}])
def test_not_a_number_in_one_image_stops_the_run_and_names_it(make_arguments, splits, settings):
    """Also where a step is looked at in the next one only."""
    args = make_arguments(max_steps=6, batch_size=1, **settings)
    steps = []
    with pytest.raises(FloatingPointError, match=r"the loss is nan at step \d on images image1\.") as stop:
        train(args, with_nan(splits, 1), on_step=lambda trainer: steps.append(trainer.step))
    late = settings == {"log_every": 100}
    assert f"at step {len(steps) - late} " in str(stop.value)
    assert {path.name for path in Path(args.output_dir).iterdir()} <= {"history.csv", "train_args.json", ".lock"}


@pytest.mark.parametrize("step", [2, 4])
def test_a_bad_step_reaches_no_checkpoint(make_arguments, splits, step):
    """A gradient that is not finite, with a loss that is: found before the weights that it spoiled are written."""
    args = make_arguments(max_steps=4, log_every=100)

    def spoil_the_next(trainer) -> None:
        trainer.write_checkpoint()
        if trainer.step == step - 1:
            parameter = next(one for one in trainer.network.parameters() if one.requires_grad)
            parameter.register_hook(lambda grad: grad * math.inf)

    with pytest.raises(FloatingPointError, match=f"the gradient's norm is (nan|inf) at step {step - 1} on images"):
        train(args, splits, on_step=spoil_the_next)
    assert last_step(args) == step - 1


def test_a_step_is_looked_at_in_the_next_one_or_when_it_is_asked_for():
    check = StepCheck(Accelerator(cpu=True))
    losses, batches = torch.ones(2), [["a"], ["b", "c"]]
    check.add(6, losses, torch.tensor(1.0), batches)
    check.add(7, losses, torch.tensor(math.inf), batches)
    with pytest.raises(FloatingPointError, match=r"the gradient's norm is inf at step 7 on images a, b, c"):
        check.add(8, losses, torch.tensor(1.0), batches)
    check.add(9, torch.tensor([1.0, math.nan]), torch.tensor(1.0), batches)
    with pytest.raises(FloatingPointError, match=r"the loss is nan at step 9 on images b, c"):
        check.finish()
    check.finish()


def test_too_little_memory_advises_what_helps(make_arguments, splits):
    advice = r"not enough memory \(.*\)\. What helps: --batch_size 2 --gradient_accumulation_steps 2 .*"
    advice += "--gradient_checkpointing .* --image_size or --tile_size"
    with pytest.raises(MemoryError, match=advice):
        train(make_arguments(batch_size=4), splits, on_step=lambda trainer: torch.empty(2**50))
