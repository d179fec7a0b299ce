"""Too little memory: name the settings that help."""

from collections.abc import Iterator
from contextlib import contextmanager

from accelerate.utils.memory import should_reduce_batch_size

from .arguments import TrainArguments


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
                "batches)"
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
