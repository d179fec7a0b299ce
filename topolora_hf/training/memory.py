"""Too little memory: name the settings that help, or make batches smaller until they fit."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from accelerate import Accelerator
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import nn

from .arguments import TrainArguments
from .checkpoints import trained_tensors


@contextmanager
def advice_on_memory(args: TrainArguments) -> Iterator[None]:
    """Raise a MemoryError that names the settings that help, in place of what PyTorch or NumPy raised."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_for_memory(error):
            raise
        ways = []
        if smaller := largest_divisor_below(args.batch_size):
            accumulated = args.gradient_accumulation_steps * args.batch_size // smaller
            ways.append(
                f"--batch_size {smaller} --gradient_accumulation_steps {accumulated} (the same tiles a step in smaller "
                "batches; --auto_batch_size finds them)"
            )
        if not args.gradient_checkpointing:
            ways.append("--gradient_checkpointing (the same steps in more time)")
        ways.append("a smaller --image_size or --tile_size")
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        raise MemoryError(f"not enough memory ({first_line}). What helps: {'; '.join(ways)}") from error


def _is_for_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or should_reduce_batch_size(error)


def largest_divisor_below(batch_size: int) -> int:
    """Find the next smaller batch size that makes a step of the same tiles; 0 below 1.

    >>> [largest_divisor_below(size) for size in (1, 2, 6, 9)]
    [0, 1, 3, 3]
    """
    return next((size for size in range(batch_size - 1, 0, -1) if batch_size % size == 0), 0)


def fit_batch_size(
    args: TrainArguments, accelerator: Accelerator, model: nn.Module, criterion: nn.Module, tile_size: int
) -> TrainArguments:
    """Find the largest batches that fit, accumulated to the same tiles a step; the same on all processes.

    From `args.batch_size` on, batches of empty tiles go forward and backward; nothing of them remains. `model` and
    `criterion`, unprepared, are moved to the device.

    Raises:
        MemoryError: not even one tile fits.
    """
    model, criterion = model.to(accelerator.device).train(), criterion.to(accelerator.device)
    buffers = [(buffer, buffer.clone()) for buffer in trained_tensors(model).values()]
    found = args.batch_size
    while found and not _fits(accelerator, model, criterion, found, tile_size):
        found = largest_divisor_below(found)
        clear_device_cache(garbage_collection=True)
    if not found:
        with advice_on_memory(replace(args, batch_size=1)):
            raise MemoryError(f"not even one tile of {tile_size} pixels fits")
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
    smallest = int(accelerator.gather(torch.tensor([found], device=accelerator.device)).min())
    times = args.batch_size // smallest
    if times > 1 and accelerator.is_main_process:
        print(f"batches   of {smallest} in place of {args.batch_size}: {times} times as many make a step")
    accumulation = args.gradient_accumulation_steps * times
    return replace(args, batch_size=smallest, gradient_accumulation_steps=accumulation)


def _fits(accelerator: Accelerator, model: nn.Module, criterion: nn.Module, batch: int, tile: int) -> bool:
    try:
        pixel_values = torch.zeros(batch, 3, tile, tile, device=accelerator.device)
        with accelerator.autocast():
            logits = model(pixel_values=pixel_values.contiguous(memory_format=torch.channels_last)).logits
        labels = torch.zeros_like(logits, dtype=torch.uint8)
        valid = torch.ones_like(labels[:, 0], dtype=torch.bool)
        # Room for what AdamW keeps of each trained number.
        moments = [torch.empty_like(tensor) for tensor in trained_tensors(model).values() for _ in range(2)]
        criterion.progress = 1.0  # with all terms
        criterion(logits, labels, valid, labels > 0).total.backward()
        return bool(moments)
    except (RuntimeError, MemoryError) as error:
        if not _is_for_memory(error):
            raise
        return False
    finally:
        model.zero_grad(set_to_none=True)
        criterion.zero_grad(set_to_none=True)
