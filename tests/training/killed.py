"""A run in a process of its own, to be killed. Processes are forked from the tests' own: nothing is imported again."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.training.conftest import make_crosses
from topolora_hf import files
from topolora_hf.training import loop
from topolora_hf.training.arguments import TrainArguments
from topolora_hf.training.run import train


def start(settings: dict, moment: str = "", number: int = 0, every: int = 2) -> BaseProcess:
    """Train in another process, with a checkpoint every so many steps.

    With a moment (`MOMENTS`), it stops there the `number`-th time, after it made the file `moment` in the run
    directory, and waits to be killed: SIGSTOP changes nothing but that.
    """
    process = multiprocessing.get_context("fork").Process(target=_work, args=(settings, moment, number, every))
    process.start()
    return process


def _work(settings: dict, moment: str, number: int, every: int) -> None:
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    args = TrainArguments(**settings)
    if moment:
        owner, name = MOMENTS[moment]
        setattr(owner, name, _stopping(getattr(owner, name), Path(args.output_dir, "moment"), number))

    def on_step(trainer) -> None:
        if trainer.step % every == 0:
            trainer.write_checkpoint()

    train(args, crosses(), on_step=on_step)


def crosses() -> dict[str, list[dict]]:
    """What it trains on and scores."""
    rows = make_crosses(7)
    return {"train": rows[:3], "validation": rows[3:4], "test": rows[4:]}


# Where a process can be stopped: before an optimizer step, between two files of a checkpoint, at a score.
MOMENTS = {
    "step": (loop.Trainer, "_take_step"),
    "checkpoint": (files, "flush"),
    "validation": (loop, "score_rows"),
}


def _stopping(function: Callable, marker: Path, number: int) -> Callable:
    calls = 0

    def stopping(*arguments, **keywords):
        nonlocal calls
        calls += 1
        if calls == number:
            marker.touch()
            os.kill(os.getpid(), signal.SIGSTOP)
        return function(*arguments, **keywords)

    return stopping


def children_of(process: int) -> list[int]:
    """The processes below that one, by number."""
    found = []
    for listed in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, listed.read_text().split()):
            found += [child, *children_of(child)]
    return found
