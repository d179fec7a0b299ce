import resource

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from topolora_hf.objective.losses import TopoLoss
from topolora_hf.training.checkpoints import read_checkpoint, save_checkpoint


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


@pytest.fixture
def checkpoints(tmp_path):
    """A folder with the checkpoints of steps 1 and 2."""
    pieces = Pieces()
    for step in (1, 2):
        pieces.step()
        save_checkpoint(tmp_path / "checkpoints", *pieces.all(), {"step": step})
    return tmp_path / "checkpoints"


def names(directory) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_long_run_has_a_long_history(tmp_path):
    history = [{"step": step, "loss": 0.123456789} for step in range(20_000)]
    save_checkpoint(tmp_path / "checkpoints", *Pieces().all(), {"step": 1, "history": history})
    assert read_checkpoint(tmp_path / "checkpoints").note["history"] == history


def test_what_is_loaded_goes_on_as_what_was_saved(tmp_path):
    first, second = Pieces(seed=0), Pieces(seed=1)
    second.model["frozen"].load_state_dict(first.model["frozen"].state_dict())
    first.step()
    save_checkpoint(tmp_path / "checkpoints", *first.all(), {"step": 1})
    drawn = torch.rand(3)
    checkpoint = read_checkpoint(tmp_path / "checkpoints")
    assert checkpoint.note == {"step": 1}
    checkpoint.restore(*second.all())
    assert torch.equal(torch.rand(3), drawn)
    for pieces in (first, second):
        pieces.step()
    for one, other in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert first.scheduler.get_last_lr() == second.scheduler.get_last_lr()


def test_the_last_two_are_kept(checkpoints):
    assert names(checkpoints) == ["00000001", "00000002"]
    pieces = Pieces()
    read_checkpoint(checkpoints).restore(*pieces.all())
    save_checkpoint(checkpoints, *pieces.all(), {"step": 10})
    assert names(checkpoints) == ["00000002", "00000010"]
    assert read_checkpoint(checkpoints).note["step"] == 10


def test_what_a_crash_left_is_no_checkpoint_and_goes_with_the_next(checkpoints):
    for leftover in (".00000003.tmp", ".00000000.old"):
        (checkpoints / leftover).mkdir()
        (checkpoints / leftover / "checkpoint.json").write_text("{")
    assert read_checkpoint(checkpoints).note["step"] == 2
    save_checkpoint(checkpoints, *Pieces().all(), {"step": 3})
    assert names(checkpoints) == ["00000002", "00000003"]


@pytest.mark.parametrize("part", [0, 5, 9])
@pytest.mark.parametrize("file", ["trained.safetensors", "state.pt", "checkpoint.json"])
def test_a_truncated_checkpoint_falls_back_to_the_one_before(checkpoints, file, part):
    path = checkpoints / "00000002" / file
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * part // 10])
    with pytest.warns(UserWarning, match=rf"going on from checkpoint .*00000001, not from a newer one: .*{file}"):
        checkpoint = read_checkpoint(checkpoints)
    assert checkpoint.note["step"] == 1
    pieces = Pieces()
    checkpoint.restore(*pieces.all())
    save_checkpoint(checkpoints, *pieces.all(), {"step": 2})  # takes the place of the broken one
    assert read_checkpoint(checkpoints).note["step"] == 2


def test_a_missing_file_and_a_changed_byte_count_as_truncated(checkpoints):
    (checkpoints / "00000002" / "state.pt").unlink()
    changed = checkpoints / "00000001" / "trained.safetensors"
    content = bytearray(changed.read_bytes())
    content[-1] ^= 1
    changed.write_bytes(content)
    with pytest.raises(
        ValueError, match="no checkpoint in .* can be read: 00000002: .*state.pt.*; 00000001: .*changed"
    ):
        read_checkpoint(checkpoints)


def test_no_folder_is_no_checkpoint(tmp_path):
    assert read_checkpoint(tmp_path / "checkpoints") is None


def test_a_checkpoint_of_another_network_names_the_tensors(checkpoints):
    other = Pieces()
    other.model["frozen"].requires_grad_(True)
    with pytest.raises(ValueError, match="another network; tensors that differ: frozen.bias, frozen.weight"):
        read_checkpoint(checkpoints).restore(*other.all())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_written(checkpoints, bad):
    pieces = Pieces()
    with torch.no_grad():
        pieces.model["trained"].bias[1] = bad
    with pytest.raises(FloatingPointError, match="1 of 2 trained tensors are not finite, among them trained.bias"):
        save_checkpoint(checkpoints, *pieces.all(), {"step": 3})
    assert names(checkpoints) == ["00000001", "00000002"]


def test_a_file_that_may_not_grow_leaves_the_earlier_checkpoints(checkpoints):
    """The limit on a file's size that shells call `ulimit -f`: as on a full disk, some of it is written."""
    pieces = Pieces(width=100)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            save_checkpoint(checkpoints, *pieces.all(), {"step": 3})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(checkpoints) == ["00000001", "00000002"]
    assert read_checkpoint(checkpoints).note["step"] == 2
