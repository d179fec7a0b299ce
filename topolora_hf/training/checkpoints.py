"""Checkpoints: what is trained, and all that is needed to go on as if nothing had happened."""

import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from .run_directory import read_json, write_json

_TENSORS, _STATE, _NOTE = "trained.safetensors", "state.pt", "checkpoint.json"


def save_checkpoint(directory: Path, model: nn.Module, criterion: nn.Module, optimizer, scheduler, note: dict) -> None:
    """Writes a checkpoint under a temporary name and renames it in place of the last one.

    Only what is trained is written (and the running statistics beside it), not the frozen base.

    Args:
        directory: of the checkpoint.
        model: unwrapped.
        criterion: the objective; its learned weights are kept.
        optimizer, scheduler: as Accelerate prepared them.
        note: JSON values: step, epoch, history, and the arguments of the run.
    """
    temporary = directory.with_name(f".{directory.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file({key: tensor.contiguous() for key, tensor in _trained(model).items()}, temporary / _TENSORS)
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


def load_checkpoint(directory: Path, model: nn.Module, criterion: nn.Module, optimizer, scheduler) -> dict:
    """Restores what `save_checkpoint` wrote and returns its note.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: its tensors are not those that this run trains.
    """
    note = read_note(directory)
    directory = _latest(directory)
    tensors = load_file(directory / _TENSORS)
    trained = _trained(model)
    if tensors.keys() != trained.keys():
        difference = sorted(tensors.keys() ^ trained.keys())
        raise ValueError(
            f"{directory} is a checkpoint of another network; tensors that differ: {', '.join(difference)}"
        )
    with torch.no_grad():
        for key, tensor in tensors.items():
            trained[key].copy_(tensor)
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


def _latest(directory: Path) -> Path:
    """Where the last checkpoint is: a run that ended between the two renames left it under its second name."""
    return directory if directory.exists() else _previous(directory)


def _previous(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.old")


def _trained(model: nn.Module) -> dict[str, torch.Tensor]:
    """Trainable parameters and the buffers of trained modules, by name."""
    tensors = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    tensors |= {name: buffer for name, buffer in model.named_buffers() if ".modules_to_save." in name}
    return {name: tensor.detach() for name, tensor in tensors.items()}
