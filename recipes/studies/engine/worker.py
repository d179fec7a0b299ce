"""What a job's process does: `python -m engine.worker COMMAND DIRECTORY/job.json`.

Beside the command's own files it writes resources.json: time, memory and machine.
"""

import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from benchmark.arguments import BenchmarkArguments
from benchmark.report import describe_machine
from topolora_hf.commands.score import ScoreArguments, score
from topolora_hf.inference.predictor import Predictor
from topolora_hf.inference.loading import load_network
from topolora_hf.files import read_json_object
from topolora_hf.training.arguments import TrainArguments
from topolora_hf.training.scoring import score_rows
from topolora_hf.training.run import train
from topolora_hf.files import write_json
from topolora_hf.training.setup import build_network, load_splits

_REPEATS = 5


@contextmanager
def step_times() -> Iterator[list[float]]:
    """Collects the seconds at which steps of any optimizer end.

    >>> parameter = torch.nn.Parameter(torch.zeros(1))
    >>> with step_times() as times:
    ...     for _ in range(3):
    ...         torch.optim.SGD([parameter]).step()
    >>> len(times)
    3
    """
    times: list[float] = []
    hook = register_optimizer_step_post_hook(lambda *_: times.append(time.perf_counter()))
    try:
        yield times
    finally:
        hook.remove()


def score_base(args: TrainArguments) -> None:
    """Scores the network that a run of these settings would start from: no image of the set was trained on."""
    spec, splits = load_splits(args, None)
    network, settings = build_network(args, spec)
    settings.intensity = getattr(splits, "intensity", None)
    split = "test" if "test" in splits else "validation"
    scores = score_rows(Predictor(network, settings), splits[split])
    run = Path(args.output_dir)
    named = {"dataset": settings.dataset, "split": split, "protocol": args.protocol, "preset": args.preset}
    named |= {"base": settings.base, "threshold": settings.threshold, "steps": 0}
    scores.save(run, settings.threshold)
    write_json(run / "metrics.json", {**named, **scores.summary()})


COMMANDS: dict[str, tuple[type, Callable]] = {
    "train": (TrainArguments, train),
    "score": (ScoreArguments, score),
    "score_base": (TrainArguments, score_base),
}


def run_worker(command: str, settings: Path) -> None:
    """Does one job and writes what it took."""
    arguments, work = COMMANDS[command]
    started = time.monotonic()
    with step_times() as times:
        result = work(given := arguments(**read_json_object(settings)))
    between = [later - earlier for earlier, later in pairwise(times)]
    resources = {
        # A run that was stopped counts what it took before, too.
        "seconds": result["seconds"] if command == "train" else round(time.monotonic() - started, 1),
        # Validations and checkpoints, which come between two steps, do not touch the median.
        "seconds_per_step": statistics.median(between) if between else None,
        "peak_memory_bytes": _peak_memory_bytes(),  # before the network is loaded once more, below
        **(_what_is_used_later(given) if command == "train" else {}),
        "machine": describe_machine(BenchmarkArguments(threads=torch.get_num_threads())),
    }
    write_json(settings.with_name("resources.json"), resources)


def _what_is_used_later(args: TrainArguments) -> dict[str, float]:
    """The size of what a run trained, and how long a tile takes with it."""
    saved = Path(args.output_dir, "adapter")
    is_adapter = saved.is_dir()
    if not is_adapter:
        saved = saved.with_name("network")
    predictor = Predictor(load_network(str(saved), args.base if is_adapter else None))
    tile = predictor.settings.tile_size
    noise = np.random.default_rng(0).integers(0, 256, (tile, tile, 3), dtype=np.uint8)
    seconds = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        predictor.probability(noise)
        seconds.append(time.perf_counter() - started)
    return {
        "saved_bytes": sum(file.stat().st_size for file in saved.glob("*.safetensors")),
        "seconds_per_tile": statistics.median(seconds),
    }


def _peak_memory_bytes() -> int:
    """Of the graphics card where there is one, else of this process, without those that load its data."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    run_worker(sys.argv[1], Path(sys.argv[2]))
