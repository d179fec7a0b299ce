"""Checkpoints: what is trained, and all that is needed to go on as if nothing had happened."""

import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from .averaging import WeightAverage
from .run_directory import read_json, write_json

_TENSORS, _AVERAGE, _STATE, _NOTE = "trained.safetensors", "averaged.safetensors", "state.pt", "checkpoint.json"


def save_checkpoint(
    directory: Path,
    model: nn.Module,
    criterion: nn.Module,
    optimizer,
    scheduler,
    note: dict,
    average: WeightAverage | None = None,
) -> None:
    """Writes a checkpoint under a temporary name and renames it in place of the last one.

    Only what is trained is written (and the running statistics beside it), not the frozen base.

    Args:
        directory: of the checkpoint.
        model: unwrapped.
        criterion: the objective; its learned weights are kept.
        optimizer, scheduler: as Accelerate prepared them.
        note: JSON values: step, epoch, history, and the arguments of the run.
        average: of the weights, where the run keeps one.
    """
    temporary = directory.with_name(f".{directory.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file({key: tensor.contiguous() for key, tensor in trained_tensors(model).items()}, temporary / _TENSORS)
    if average is not None:
        save_file(average.tensors, temporary / _AVERAGE)
    state = {
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "criterion": criterion.state_dict(),
        "loss_scaler": None if optimizer.scaler is None else optimizer.scaler.state_dict(),
        "torch_random": torch.get_rng_state(),
    }
    torch.save(state, temporary / _STATE)
    write_json(temporary / _NOTE, note)
    # At every moment a whole checkpoint lies under a name that `_latest` finds.
    previous = _previous(directory)
    if directory.exists():
        shutil.rmtree(previous, ignore_errors=True)
        os.replace(directory, previous)
    os.replace(temporary, directory)
    shutil.rmtree(previous, ignore_errors=True)


def load_checkpoint(
    directory: Path,
    model: nn.Module,
    criterion: nn.Module,
    optimizer,
    scheduler,
    average: WeightAverage | None = None,
) -> dict:
    """Restores what `save_checkpoint` wrote and returns its note.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: its tensors are not those that this run trains.
    """
    note = read_note(directory)
    directory = _latest(directory)
    _restore(trained_tensors(model), directory / _TENSORS)
    if average is not None:
        _restore(average.tensors, directory / _AVERAGE)
    state = torch.load(directory / _STATE, weights_only=True)
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    criterion.load_state_dict(state["criterion"])
    if optimizer.scaler is not None:
        optimizer.scaler.load_state_dict(state["loss_scaler"])
    torch.set_rng_state(state["torch_random"])
    return note


def read_note(directory: Path) -> dict:
    """The note of a checkpoint, without touching anything; FileNotFoundError when there is no checkpoint."""
    if not (_latest(directory) / _NOTE).is_file():
        raise FileNotFoundError(f"no checkpoint to resume from at {directory}")
    return read_json(_latest(directory) / _NOTE)


def _restore(tensors: dict[str, torch.Tensor], file: Path) -> None:
    stored = load_file(file)
    shapes, expected = ({name: tensor.shape for name, tensor in group.items()} for group in (stored, tensors))
    if shapes != expected:
        difference = sorted({name for name, _ in shapes.items() ^ expected.items()})
        raise ValueError(
            f"{file.parent} is a checkpoint of another network; tensors that differ: {', '.join(difference)}"
        )
    with torch.no_grad():
        for key, tensor in stored.items():
            tensors[key].copy_(tensor)


def _latest(directory: Path) -> Path:
    """Where the last checkpoint is: a run that ended between the two renames left it under its second name."""
    return directory if directory.exists() else _previous(directory)


def _previous(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.old")


def trained_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Trainable parameters, and the buffers beside them or of modules that PEFT saves, by name."""
    tensors = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    owners = {name.rpartition(".")[0] for name in tensors}
    tensors |= {
        name: buffer
        for name, buffer in model.named_buffers()
        if ".modules_to_save." in name or name.rpartition(".")[0] in owners
    }
    return {name: tensor.detach() for name, tensor in tensors.items()}
