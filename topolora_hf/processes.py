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
    main_process_first = nullcontext

    def wait_for_everyone(self) -> None:
        pass


def usable_cores() -> int:
    """The cores that this process may run on. macOS and Windows tell only how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def best_device() -> "torch.device":
    """The accelerator of this machine (CUDA, MPS, XPU, ...), or the CPU."""
    import torch

    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")


def fast_dtype(device: "torch.device") -> "torch.dtype":
    """The precision that suits a forward pass: bfloat16 on a GPU that computes in it, and does not emulate it."""
    import torch

    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if has_bf16 else torch.float32


def tiles_at_once(device: "torch.device", image_size: int) -> int:
    """How many tiles a forward pass takes: 4 on a CPU; on a GPU those that half of its free memory holds, up to 64.

    A tile takes about a GiB where the encoder sees 1024 pixels, less in proportion to the pixels.
    """
    if device.type != "cuda":
        return 4
    import torch

    free = torch.cuda.mem_get_info(device)[0] / 2**30
    return int(min(64, max(1, free / 2 * (1024 / image_size) ** 2)))


def launched_together() -> bool:
    """Whether this is one of several processes that a launcher started."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def launched_on_cpus() -> bool:
    """Whether to train on CPUs: `accelerate launch` says so, or started several processes where there is no GPU.

    Accelerate must be told (`cpu=True`) by whoever asks first. Otherwise each process takes itself for the only one.
    """
    told = os.environ.get("ACCELERATE_USE_CPU", "false").lower() in ("1", "true", "yes")
    return told or (launched_together() and best_device().type == "cpu")


def process_state() -> "PartialState | OneProcess":
    """This process among those that were launched together."""
    if not launched_together():
        return OneProcess()
    from accelerate import PartialState

    return PartialState(cpu=launched_on_cpus())
