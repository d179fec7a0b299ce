"""Being asked to stop: finish the step, write a checkpoint, say how to resume."""

import os
import signal
import threading
from types import FrameType

import torch
from accelerate import Accelerator

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_EVERY = 8  # steps: several processes ask each other, and wait for the answer


class RunStopped(Exception):
    """A run ended early because it was asked to; the same command resumes from its checkpoint.

    Attributes:
        exit_status: of a process that ends for it: 128 and the signal's number.
    """

    __module__ = "topolora_hf"  # wherever the file lies

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.exit_status = 128 + number


class StopRequest:
    """Within it SIGTERM and SIGINT (Ctrl-C) are noted instead of obeyed; a second one is obeyed.

    Outside of the main thread, where Python has no signals, nothing is noted. A signal to one process stops all, after
    the same step.
    """

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.number = signal.SIGTERM  # if another process got the signal
        self._noted = False
        self._before = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def was_made(self, step: int, last: bool) -> bool:
        """Whether any process was asked to stop. Several processes find out after each eighth step, and the last."""
        if self.accelerator.num_processes == 1:
            return self._noted
        if step % _EVERY and not last:
            return False
        noted = torch.tensor(float(self._noted), device=self.accelerator.device)
        return self.accelerator.reduce(noted).item() > 0

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number, self._noted = number, True
        self.__exit__()


def obey_only_the_run(worker: int) -> None:
    """In processes that load data: outlive a signal to all of a run's processes until its last step.

    A signal from the run itself ends them: so it ends them when it ends early, and it waits for their end.
    """
    if not hasattr(signal, "sigwaitinfo"):  # macOS, Windows: who sent a signal cannot be known
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    threading.Thread(target=_end_when_told_by, args=(os.getppid(),), daemon=True).start()


def _end_when_told_by(run: int) -> None:
    while signal.sigwaitinfo(_SIGNALS).si_pid != run:
        pass
    os._exit(0)
