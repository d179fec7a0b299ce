"""What happens to runs: disks, memory, images and numbers that fail. docs/faults.md lists it."""

import math
import os
import resource
import shutil
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from tests.training.killed import children_of
from tests.training.test_run_again import adapter_bytes, at_step, last_step  # noqa: F401 (a fixture)
from topolora_hf.data.errors import DataError
from topolora_hf.network.segmenter import TopoSamForSegmentation
from topolora_hf.objective.losses import TopoLoss
from topolora_hf.training import loop
from topolora_hf.training.memory import fit_batch_size
from topolora_hf.training.numerics import NumericsGuard
from topolora_hf.training.progress import alone_in
from topolora_hf.training.run import train

pytestmark = pytest.mark.usefixtures("no_pictures")


def limit_files(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_a_disk_that_takes_no_more_leaves_the_last_checkpoint_and_the_run_goes_on_later(
    make_arguments,
    splits,
    at_step,  # noqa: F811
):
    through, filled = (make_arguments(name, max_steps=4, checkpoint_every=2) for name in ("through", "filled"))
    train(through, splits)
    at_step(3, lambda trainer: limit_files(20_000))
    try:
        with pytest.raises(OSError, match="cannot write a checkpoint to .* after step 4: .*File too large.* of step 2"):
            train(filled, splits)
    finally:
        limit_files(resource.RLIM_INFINITY)
    assert last_step(filled) == 2 and not (Path(filled.output_dir) / "adapter").exists()
    train(filled, splits)
    assert adapter_bytes(filled) == adapter_bytes(through)


def test_a_directory_that_is_removed_ends_the_run_with_its_name(make_arguments, splits, at_step):  # noqa: F811
    args = make_arguments(max_steps=4)
    at_step(2, lambda trainer: shutil.rmtree(args.output_dir))
    with pytest.raises(OSError, match="cannot write history.csv to .*run after step 2: .*No such file.*no checkpoint"):
        train(args, splits)


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


def test_an_image_that_is_deleted_during_training_is_named(make_arguments, make_rows, tmp_path, at_step):  # noqa: F811
    for split, count, first in (("train", 2, 0), ("validation", 1, 2), ("test", 1, 3)):
        for row in make_rows(count, first=first):
            for kind, array in (("images", row["image"]), ("masks", row["mask"] * 255)):
                folder = tmp_path / "data" / split / kind
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(folder / f"{row['id']}.png")
    args = make_arguments(dataset=str(tmp_path / "data"), evaluate_every=2, checkpoint_every=1)
    deleted = tmp_path / "data" / "validation" / "images" / "image2.png"
    kept = deleted.read_bytes()
    at_step(1, lambda trainer: deleted.unlink())
    with pytest.raises((DataError, OSError), match="image2.png"):
        train(args)
    deleted.write_bytes(kept)
    assert last_step(args) == 1
    train(args)


def test_a_killed_process_that_loads_data_is_said_and_the_run_goes_on(make_arguments, splits, at_step):  # noqa: F811
    args = make_arguments(max_steps=40, checkpoint_every=1, num_workers=1)

    def kill(trainer):
        for child in children_of(os.getpid()):
            os.kill(child, signal.SIGKILL)

    at_step(2, kill)
    with pytest.raises(ChildProcessError, match="a process that loads data was killed.* fewer num_workers"):
        train(args, splits)
    assert last_step(args) >= 1


def with_nan(splits: dict, number: int) -> dict:
    rows = [dict(row) for row in splits["train"]]
    rows[number]["image"] = rows[number]["image"].astype(np.float32)
    rows[number]["image"][...] = math.nan
    return {**splits, "train": rows}


@pytest.mark.parametrize("preset", ["topolora", "seglab"])
def test_not_a_number_in_one_image_stops_the_run_and_names_it_or_is_skipped(make_arguments, splits, preset):
    settings = {"max_steps": 6, "batch_size": 1, "checkpoint_every": 1, "preset": preset}
    settings["detail_channels"] = 4 if preset == "topolora" else None
    args = make_arguments(**settings)
    with pytest.raises(FloatingPointError, match=r"the loss is nan at step \d on images image1\. .*on_non_finite skip"):
        train(args, with_nan(splits, 1))
    assert not (Path(args.output_dir) / "adapter").exists()
    # The weights, and the statistics of the normalisations, are those that the good images left.
    args = make_arguments(**settings, on_non_finite="skip")
    assert np.isfinite(train(args, with_nan(splits, 1))["auroc"])
    tensors = load_file(Path(args.output_dir) / "adapter" / "adapter_model.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
    rows = (Path(args.output_dir) / "history.csv").read_text().splitlines()[1:]
    assert any(row.split(",")[2] == "" for row in rows) and any(row.split(",")[2] != "" for row in rows)


def test_an_infinite_gradient_stops_the_run_and_names_the_images(make_arguments, splits, monkeypatch):
    share = loop.Trainer._share_criterion_gradients

    def spoil(trainer):
        share(trainer)
        if trainer.step == 1:
            next(p for p in trainer.model.parameters() if p.grad is not None).grad.view(-1)[0] = math.inf

    monkeypatch.setattr(loop.Trainer, "_share_criterion_gradients", spoil)
    args = make_arguments(checkpoint_every=1)
    with pytest.raises(FloatingPointError, match=r"the gradient's norm is inf at step 1 on images image\d, image\d"):
        train(args, splits)
    assert last_step(args) == 1


def test_ten_bad_steps_in_a_row_are_no_accident():
    guard = NumericsGuard(Accelerator(cpu=True), "skip")
    bad, good = ([torch.tensor(value)] for value in (math.inf, 1.0))
    for _ in range(2):
        assert [guard.allows(0, bad, torch.tensor(1.0), [["a"]]) for _ in range(9)] == [False] * 9
        assert guard.allows(0, good, torch.tensor(1.0), [["a"]])
    with pytest.raises(FloatingPointError, match="the loss is inf at step 5 on images a, at 10 steps in a row"):
        for _ in range(10):
            guard.allows(5, bad, torch.tensor(1.0), [["a"]])


def test_too_little_memory_advises_what_helps(make_arguments, splits, monkeypatch):
    monkeypatch.setattr(loop.Trainer, "_step_batch", lambda trainer, batch: torch.empty(2**50))
    advice = r"not enough memory \(.*\)\. What helps: --batch_size 2 --gradient_accumulation_steps 2 .*"
    advice += "--gradient_checkpointing True .* --image_size or --tile_size"
    with pytest.raises(MemoryError, match=advice):
        train(make_arguments(batch_size=4), splits)


class Hungry(nn.Module):
    """A network that finds memory for so many tiles."""

    def __init__(self, tiles: int, network: nn.Module):
        super().__init__()
        self.tiles, self.network, self.seen = tiles, network, []

    def forward(self, pixel_values):
        self.seen.append(len(pixel_values))
        if len(pixel_values) > self.tiles:
            torch.empty(2**50)
        return self.network(pixel_values=pixel_values)


def test_batches_shrink_until_they_fit_and_a_step_stays_the_same(make_arguments, stock_sam):
    args = make_arguments(batch_size=6, auto_batch_size=True)
    network = TopoSamForSegmentation.from_pretrained(stock_sam("small"), image_size=64, tile_size=48)
    accelerator, criterion = Accelerator(cpu=True), TopoLoss(iterations=2)
    model = Hungry(2, network)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    fitting = fit_batch_size(args, accelerator, model, criterion, 48)
    assert (fitting.batch_size, fitting.gradient_accumulation_steps, model.seen) == (1, 6, [6, 3, 1])
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    with pytest.raises(MemoryError, match="not even one tile of 48 pixels fits"):
        fit_batch_size(args, accelerator, Hungry(0, network), criterion, 48)


def test_found_batches_are_trained_with(make_arguments, splits):
    plain, found = make_arguments("plain"), make_arguments("found", auto_batch_size=True)
    train(plain, splits)
    train(found, splits)
    assert adapter_bytes(found) == adapter_bytes(plain)
