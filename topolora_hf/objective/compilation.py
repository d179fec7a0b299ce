"""When the soft skeleton's arithmetic runs compiled.

`torch.compile` makes it about twice as fast on a CPU with a C++ compiler (bit for bit the same there), and saves most
launches on a GPU with triton; but compiling takes ten to thirty seconds. So it happens once eager mode has taken about
as long in this process: long trainings get it, short jobs and tests never wait for it.
"""

import logging
import time
from collections.abc import Callable

import torch

SKELETON_COMPILATION = ("auto", "always", "never")

_WORTHWHILE_AFTER_SECONDS = 20.0
_logger = logging.getLogger(__name__)


class _Choice:
    """What the process has chosen so far."""

    mode = "auto"
    eager_seconds = 0.0
    broken = False


def set_skeleton_compilation(mode: str) -> None:
    """Chooses whether the soft skeleton is compiled; for the whole process.

    Args:
        mode: `"auto"` (the default), once eager mode has taken 20 seconds; `"always"`; or `"never"`. Without a working
            compiler eager mode stays, with a warning. Only float32 is ever compiled.

    Raises:
        ValueError: for another mode.
    """
    if mode not in SKELETON_COMPILATION:
        raise ValueError(f"skeleton compilation must be one of {', '.join(SKELETON_COMPILATION)}; got {mode!r}")
    _Choice.mode = mode


def compiled_when_worthwhile(function: Callable) -> Callable:
    """Decorates a pure tensor function whose first argument decides the dtype; compiled with dynamic shapes."""
    compiled = torch.compile(function, dynamic=True, fullgraph=True)

    def run(*arguments):
        if _is_wanted(arguments[0].dtype):
            try:
                return compiled(*arguments)
            except Exception as error:  # whatever a broken or missing compiler raises; real errors return in eager mode
                _Choice.broken = True
                _logger.warning("the soft skeleton cannot be compiled and stays in eager mode: %s", error)
        start = time.perf_counter()
        result = function(*arguments)
        _Choice.eager_seconds += time.perf_counter() - start
        return result

    return run


def _is_wanted(dtype: torch.dtype) -> bool:
    # half precision would be rounded less often than in eager mode, and give other values
    if dtype != torch.float32 or _Choice.broken or _Choice.mode == "never":
        return False
    return _Choice.mode == "always" or _Choice.eager_seconds > _WORTHWHILE_AFTER_SECONDS
