"""How far a run directory has come: the same command starts a run, resumes it, or finds it done."""

import os
import shutil
import socket
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout

from ..data.catalog import CATALOG
from ..data.records import some
from ..files import read_json_object
from ..settings import changed_settings
from .arguments import TrainArguments
from .checkpoints import FOLDER, Checkpoint, read_checkpoint

METRICS, SETTINGS = "metrics.json", "train_args.json"
_LOCK, _HOLDER = ".lock", ".holder"
# Processes that load data notice only after some seconds that their run was killed; until then they hold its lock, too.
_PATIENCE_SECONDS = 10
# What a run gives does not depend on them, but for rounding.
_FREE = set("overwrite output_dir log_with num_workers num_threads push_to_hub hub_model_id".split())
# Only their product with the number of processes counts: the tiles of a step.
_BATCH = {"batch_size", "gradient_accumulation_steps"}


class Progress(NamedTuple):
    """What a run directory holds: `metrics` of a finished run, or the `checkpoint` of one to resume, or nothing."""

    metrics: dict | None = None
    checkpoint: Checkpoint | None = None


def find_progress(run: Path, args: TrainArguments, processes: int) -> Progress:
    """Look at a run directory before anything is written or loaded, on one process.

    Raises:
        ValueError: it holds a run of other settings, which are named; or no checkpoint that can be read.
    """
    if args.overwrite:
        return Progress()
    if (run / METRICS).is_file() and (run / SETTINGS).is_file():
        _require_same(f"{run} holds a finished run of", read_json_object(run / SETTINGS), args)
        metrics = read_json_object(run / METRICS)
        print(f"{run} holds this run, finished (scores of {metrics['n']} images); --overwrite starts it anew")
        return Progress(metrics=metrics)
    if (checkpoint := read_checkpoint(run / FOLDER)) is None:
        return Progress()
    note = checkpoint.note
    before, now = tiles_a_step(note["arguments"], note["processes"]), tiles_a_step(asdict(args), processes)
    changed = []
    if now != before:
        product = f"batch_size {args.batch_size} x gradient_accumulation_steps {args.gradient_accumulation_steps} x "
        product += f"{processes} process{'' if processes == 1 else 'es'}"
        changed = [f"the tiles of a step were {before}, are {now} ({product})"]
    _require_same(f"cannot resume {run} with", note["arguments"], args, _BATCH, changed)
    print(f"resuming  {run} after step {note['step']}")
    return Progress(checkpoint=checkpoint)


def start_anew(run: Path) -> None:
    """Remove what makes a run directory a finished run, or one to resume."""
    (run / METRICS).unlink(missing_ok=True)
    shutil.rmtree(run / FOLDER, ignore_errors=True)


def ids_of(splits: dict[str, Sequence[dict]]) -> dict[str, list[str]]:
    """The ids of the images of each split, of a `datasets.Dataset` without decoding them."""
    plain = {name: rows.with_format(None)["id"] if hasattr(rows, "with_format") else [row["id"] for row in rows]
             for name, rows in splits.items()}  # fmt: skip
    return {name: list(map(str, ids)) for name, ids in plain.items()}


def require_same_images(run: Path, before: dict[str, list[str]], now: dict[str, list[str]]) -> None:
    """Refuse to resume where a split has other images: some that were trained on might be scored."""
    for split in before | now:
        was, is_now = before.get(split, []), now.get(split, [])
        if was != is_now:
            other = sorted({*was} ^ {*is_now})
            raise ValueError(
                f"cannot resume {run} with other images: the {split} split had {len(was)}, has {len(is_now)}; in one "
                f"alone are {some(other)}. Choose another output_dir; --overwrite starts anew"
            )


def _require_same(what: str, before: dict, args: TrainArguments, free: Collection[str] = (), more: Sequence[str] = ()):
    if changed := [*changed_settings(before, args, {*free_settings(args.dataset), *free}), *more]:
        advice = "Choose another output_dir; --overwrite starts anew"
        raise ValueError(f"{what} other settings: {'; '.join(changed)}. {advice}")


def free_settings(dataset: str) -> set[str]:
    """Name the settings that may differ between runs that give the same; of a named data set, where its files lie."""
    spec = CATALOG.get(dataset.lower())
    return _FREE | ({"data_dir"} if spec is not None and spec.counts else set())


def tiles_a_step(settings: dict, processes: int) -> int:
    """Count the tiles that an optimizer step sees."""
    return settings["batch_size"] * settings["gradient_accumulation_steps"] * processes


def on_main_process(accelerator: Accelerator, work: Callable[[], Any]) -> Any:
    """Do work on the main process, and give its result, or raise its error, on all: the others may see another disk."""
    outcome: list = [None, None]
    if accelerator.is_main_process:
        try:
            outcome[0] = work()
        except (OSError, ValueError) as error:
            outcome[1] = error
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


@contextmanager
def alone_in(run: Path, accelerator: Accelerator) -> Iterator[None]:
    """Make the run directory, and keep others out of it until the block, or this process, ends.

    The system holds the lock: not even `kill -9` leaves one behind. A directory in which nothing was written is
    removed again.

    Raises:
        BlockingIOError: another process trains in it.
        OSError: it cannot be made or written to.
    """
    lock, holder = FileLock(run / _LOCK, timeout=_PATIENCE_SECONDS), run / _HOLDER

    def take() -> None:
        run.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout as error:
            name = holder.read_text(encoding="utf-8") if holder.is_file() else "another process"
            advice = "Wait for it, end it, or choose another output_dir"
            raise BlockingIOError(f"{run} is in use: {name} trains in it. {advice}") from error
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")

    try:
        on_main_process(accelerator, take)
        yield
    finally:
        if lock.is_locked:
            holder.unlink(missing_ok=True)
            is_empty = run.is_dir() and [path.name for path in run.iterdir()] == [_LOCK]
            lock.release()
            if is_empty:
                (run / _LOCK).unlink(missing_ok=True)
                run.rmdir()
