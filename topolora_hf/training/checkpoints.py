"""Checkpoints: what is trained, and all that is needed to resume as if nothing had happened."""

import hashlib
import io
import math
import os
import shutil
import warnings
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from ..files import flush, read_json_object, write_file, write_json
from .numerics import require_finite

FOLDER = "checkpoints"
_TENSORS, _STATE, _NOTE = "trained.safetensors", "state.pt", "checkpoint.json"
_KEPT = 2


def save_checkpoint(directory: Path, model: nn.Module, criterion: nn.Module, optimizer, scheduler, note: dict) -> None:
    """Write a checkpoint under a temporary name, flush it to the disk, and rename it. Keep the last two.

    Only what is trained is written, and the running statistics beside it, not the frozen base. After any crash the
    newest directory with a number for its name is whole. `note` holds JSON values, among them the `step`.

    Raises:
        FloatingPointError: what is trained is not finite.
        OSError: it cannot be written; the earlier checkpoints stay.
    """
    trained = trained_tensors(model)
    require_finite(trained)
    state = {
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "criterion": criterion.state_dict(),
        "loss_scaler": None if optimizer.scaler is None else optimizer.scaler.state_dict(),
        "torch_random": torch.get_rng_state(),
        # A baseline's dropout draws on the device. All processes began with one seed and drew as often.
        "device_random": _device().get_rng_state() if torch.accelerator.is_available() else None,
    }
    tensors = safetensors.torch.save({key: tensor.contiguous() for key, tensor in trained.items()})
    in_memory = io.BytesIO()
    torch.save(state, in_memory)
    _write(directory, {_TENSORS: tensors, _STATE: in_memory.getvalue()}, note)


def _write(directory: Path, files: dict[str, bytes], note: dict) -> None:
    target = directory / f"{note['step']:08}"
    temporary = directory / f".{target.name}.tmp"
    directory.mkdir(exist_ok=True)
    for hidden in directory.glob(".*"):  # what a crash left
        shutil.rmtree(hidden, ignore_errors=True)
    temporary.mkdir()
    try:
        for name, content in files.items():
            write_file(temporary / name, content)
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        write_json(temporary / _NOTE, {**note, "sha256": digests})
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(target, ignore_errors=True)  # of this step: one that could not be read
    os.replace(temporary, target)
    flush(directory)
    for old in _newest_first(directory)[_KEPT:]:
        hidden = old.with_name(f".{old.name}.old")
        os.replace(old, hidden)  # what is half removed must not pass for a checkpoint
        shutil.rmtree(hidden, ignore_errors=True)


def _device():
    """PyTorch's module of the machine's accelerator, such as `torch.cuda`."""
    return torch.get_device_module(torch.accelerator.current_accelerator())


class Checkpoint:
    """A checkpoint that was read and found whole: its `note`, and the contents of its other `files` by name."""

    def __init__(self, path: Path):
        self.path = path
        self.note = read_json_object(path / _NOTE, most_bytes=math.inf)  # the history grows with the run
        if not isinstance(self.note.get("sha256"), dict):
            raise ValueError(f"{path / _NOTE} is not the note of a checkpoint")
        digests = self.note.pop("sha256")
        self.files = {name: (path / name).read_bytes() for name in digests}
        for name, content in self.files.items():
            if hashlib.sha256(content).hexdigest() != digests[name]:
                raise ValueError(f"{path / name} is not what was written: truncated, or changed since")

    def restore(self, model: nn.Module, criterion: nn.Module, optimizer, scheduler) -> None:
        """Bring a run to where the checkpoint was written. ValueError: it is another network's; nothing was changed."""
        self._copy_tensors(trained_tensors(model))
        state = torch.load(io.BytesIO(self.files[_STATE]), map_location="cpu", weights_only=True)
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        criterion.load_state_dict(state["criterion"])
        if optimizer.scaler is not None:
            optimizer.scaler.load_state_dict(state["loss_scaler"])
        torch.set_rng_state(state["torch_random"])
        if torch.accelerator.is_available() and state["device_random"] is not None:
            _device().set_rng_state(state["device_random"])

    def _copy_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        stored = safetensors.torch.load(self.files[_TENSORS])
        found, expected = ({name: tensor.shape for name, tensor in group.items()} for group in (stored, tensors))
        if found != expected:
            names = ", ".join(sorted({name for name, _ in found.items() ^ expected.items()}))
            raise ValueError(f"{self.path} is a checkpoint of another network; tensors that differ: {names}")
        with torch.no_grad():
            for key, tensor in stored.items():
                tensors[key].copy_(tensor)


def read_checkpoint(directory: Path) -> Checkpoint | None:
    """Read the newest checkpoint that is whole; pass over others with a warning. None if there never was one.

    Raises:
        ValueError: there are checkpoints, and none is whole.
    """
    problems = []
    for path in _newest_first(directory):
        try:
            checkpoint = Checkpoint(path)
        except (OSError, ValueError) as error:
            problems.append(f"{path.name}: {error}")
            continue
        if problems:
            warnings.warn(f"going on from checkpoint {path}, not from a newer one: {'; '.join(problems)}", stacklevel=2)
        return checkpoint
    if problems:
        raise ValueError(f"no checkpoint in {directory} can be read: {'; '.join(problems)}")
    return None


def _newest_first(directory: Path) -> list[Path]:
    paths = directory.iterdir() if directory.is_dir() else ()
    return sorted((path for path in paths if path.name.isdigit()), key=lambda path: int(path.name), reverse=True)


def trained_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Collect trainable parameters, and buffers beside them or of modules that PEFT saves, by name."""
    tensors = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    owners = {name.rpartition(".")[0] for name in tensors}
    tensors |= {
        name: buffer
        for name, buffer in model.named_buffers()
        if ".modules_to_save." in name or name.rpartition(".")[0] in owners
    }
    return {name: tensor.detach() for name, tensor in tensors.items()}
