import shutil

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from topolora_hf import TopoLoss
from topolora_hf.training.averaging import WeightAverage
from topolora_hf.training.checkpoints import load_checkpoint, read_note, save_checkpoint, trained_tensors


class Pieces:
    """A trained and a frozen layer, with what Accelerate makes of their optimizer and schedule."""

    def __init__(self, width: int = 3, seed: int = 0):
        torch.manual_seed(seed)
        self.model = nn.ModuleDict({"trained": nn.Linear(width, width), "frozen": nn.Linear(width, width)})
        self.model["frozen"].requires_grad_(False)
        optimizer = torch.optim.AdamW(self.model["trained"].parameters())
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        self.optimizer, self.scheduler = Accelerator(cpu=True).prepare(optimizer, scheduler)
        self.criterion = TopoLoss(schedule="adaptive")

    def step(self) -> None:
        self.model["trained"](torch.ones(1, self.model["trained"].in_features)).square().sum().backward()
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()

    def all(self) -> tuple:
        return self.model, self.criterion, self.optimizer, self.scheduler


def test_what_is_loaded_goes_on_as_what_was_saved(tmp_path):
    first, second = Pieces(seed=0), Pieces(seed=1)
    second.model["frozen"].load_state_dict(first.model["frozen"].state_dict())
    first.step()
    save_checkpoint(tmp_path / "checkpoint", *first.all(), {"step": 1})
    drawn = torch.rand(3)
    assert load_checkpoint(tmp_path / "checkpoint", *second.all()) == {"step": 1}
    assert torch.equal(torch.rand(3), drawn)
    for pieces in (first, second):
        pieces.step()
    for one, other in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert first.scheduler.get_last_lr() == second.scheduler.get_last_lr()


def test_weights_and_their_average_both_come_back(tmp_path):
    first, second = Pieces(seed=0), Pieces(seed=1)
    averages = [WeightAverage(trained_tensors(pieces.model), 0.9) for pieces in (first, second)]
    first.step()
    averages[0].update(0)
    save_checkpoint(tmp_path / "checkpoint", *first.all(), {"step": 1}, averages[0])
    load_checkpoint(tmp_path / "checkpoint", *second.all(), averages[1])
    for name, tensor in trained_tensors(first.model).items():
        assert torch.equal(trained_tensors(second.model)[name], tensor)
        assert torch.equal(averages[1].tensors[name], averages[0].tensors[name])
        assert not torch.equal(averages[0].tensors[name], tensor)
    assert averages[1].tensors.keys() == {"trained.weight", "trained.bias"}


def test_a_failed_write_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    pieces = Pieces()
    save_checkpoint(tmp_path / "checkpoint", *pieces.all(), {"step": 1})

    def full(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(OSError, match="no space left"):
            save_checkpoint(tmp_path / "checkpoint", *pieces.all(), {"step": 2})
    assert load_checkpoint(tmp_path / "checkpoint", *pieces.all())["step"] == 1
    save_checkpoint(tmp_path / "checkpoint", *pieces.all(), {"step": 3})
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    assert read_note(tmp_path / "checkpoint")["step"] == 3


def test_a_run_ended_between_the_two_renames_finds_its_last_checkpoint(tmp_path):
    pieces = Pieces()
    save_checkpoint(tmp_path / "checkpoint", *pieces.all(), {"step": 1})
    shutil.move(tmp_path / "checkpoint", tmp_path / ".checkpoint.old")
    assert load_checkpoint(tmp_path / "checkpoint", *pieces.all())["step"] == 1
    save_checkpoint(tmp_path / "checkpoint", *pieces.all(), {"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_a_checkpoint_of_another_network_names_the_tensors(tmp_path):
    pieces, other = Pieces(), Pieces()
    save_checkpoint(tmp_path / "checkpoint", *pieces.all(), {"step": 1})
    other.model["frozen"].requires_grad_(True)
    with pytest.raises(ValueError, match="another network; tensors that differ: frozen.bias, frozen.weight"):
        load_checkpoint(tmp_path / "checkpoint", *other.all())
