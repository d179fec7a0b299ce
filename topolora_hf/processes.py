"""The processes of `accelerate launch`, on GPUs and on CPUs."""

import os

import torch
from accelerate import PartialState


def usable_cores() -> int:
    """Those that this process may run on; macOS tells only how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def launched_on_cpus() -> bool:
    """Whether several processes were launched together where there is no GPU.

    Accelerate has to be told (`cpu=True`) by whoever asks first: otherwise each process takes itself for the only one.
    """
    return int(os.environ.get("WORLD_SIZE", 1)) > 1 and not torch.accelerator.is_available()


def process_state() -> PartialState:
    """This process among those that were launched together."""
    return PartialState(cpu=launched_on_cpus())
