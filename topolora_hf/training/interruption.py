"""Being asked to stop: the step is finished, a checkpoint written, and the process says how to go on."""

import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from accelerate import Accelerator

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SIGNAL_SECONDS = 1.0


class RunStopped(Exception):
    """A run ended early because it was asked to; the same command goes on from its checkpoint.

    Attributes:
        exit_status: what a process that ends for it returns, as shells count: 128 and the signal's number.
    """

    __module__ = "topolora_hf"  # wherever the file lies

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.exit_status = 128 + number


class StopRequest:
    """Within it SIGTERM and SIGINT (Ctrl-C) are noted instead of obeyed; a second one is obeyed.

    Outside of the main thread, where Python has no signals, nothing is noted.

    Args:
        accelerator: whose processes are asked: a signal to one of them stops all, at the same step.
    """

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.number = signal.SIGTERM  # where another process got the signal
        self._before = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def was_made(self) -> bool:
        """Whether any process was asked to stop; all get the same answer, so all have to ask."""
        return self.accelerator.check_trigger()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        self.accelerator.set_trigger()
        self.__exit__()


@contextmanager
def naming_dead_workers() -> Iterator[None]:
    """Says what a run can do about it when a process that loads its data was killed.

    Raises:
        ChildProcessError: in place of PyTorch's RuntimeError, which comes at any point of the main process's work, or
            of the error of the connection that broke before it.
    """
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:
        reason = _death_of_a_worker(error)
        if reason is None:
            raise
        raise ChildProcessError(
            f"a process that loads data was killed, perhaps for its memory ({reason}). The same command goes on from "
            "the last checkpoint; fewer num_workers need less memory"
        ) from error


def _death_of_a_worker(error: Exception) -> str | None:
    """What PyTorch says of it; None for another error."""
    if isinstance(error, RuntimeError):
        return str(error) if "DataLoader worker" in str(error) else None
    try:  # the connection broke first: the signal that the worker is dead is on its way, and becomes that RuntimeError
        frames = traceback.walk_tb(error.__traceback__)
        if not any(frame.f_code.co_filename.endswith("dataloader.py") for frame, _ in frames):
            return None
        time.sleep(_SIGNAL_SECONDS)
    except RuntimeError as late:
        return str(late)
    return str(error) or type(error).__name__


def obey_only_the_run(worker: int) -> None:
    """In processes that load data: a signal to all of a run's processes must not end them under its last step.

    One from the run itself must: so it ends them when it ends early, and it waits for their end.
    """
    if not hasattr(signal, "sigwaitinfo"):  # macOS: who sent a signal cannot be known
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    threading.Thread(target=_end_when_told_by, args=(os.getppid(),), daemon=True).start()


def _end_when_told_by(run: int) -> None:
    while signal.sigwaitinfo(_SIGNALS).si_pid != run:
        pass
    os._exit(0)
