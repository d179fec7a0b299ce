"""Devices, cores, and the processes of `accelerate launch`."""

import os
from contextlib import nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from accelerate import PartialState


class OneProcess:
    """What `process_state` gives for a process that was launched alone, without importing Accelerate."""

    process_index, num_processes, is_main_process = 0, 1, True

    def main_process_first(self):
        return nullcontext()

    def wait_for_everyone(self) -> None:
        pass


def usable_cores() -> int:
    """The cores that this process may run on. macOS and Windows tell only how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def best_device() -> "torch.device":
    """The accelerator of this machine (CUDA, MPS, XPU, ...), or the CPU."""
    import torch

    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")


def launched_together() -> bool:
    """Whether this is one of several processes that a launcher started."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def launched_on_cpus() -> bool:
    """Whether several processes were launched together without a GPU.

    Accelerate must be told (`cpu=True`) by whoever asks first. Otherwise each process takes itself for the only one.
    """
    return launched_together() and best_device().type == "cpu"


def process_state() -> "PartialState | OneProcess":
    """This process among those that were launched together."""
    if not launched_together():
        return OneProcess()
    from accelerate import PartialState

    return PartialState(cpu=launched_on_cpus())
