"""What a job's process does: `python -m engine.worker COMMAND DIRECTORY/job.json`.

Beside the command's own files it writes resources.json: time, memory and machine.
"""

import contextlib
import copy
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn

from baselines.networks import create_baseline, load_baseline
from engine.anchors import AnchorArguments
from engine.arguments import RunArguments
from engine.jobs import METRICS
from engine.machine import describe_machine, largest_resident_bytes
from objective_runs import ObjectiveRunArguments, cost_of_objective, train_objective
from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.commands.score import ScoreArguments, score
from topolora_hf.data.catalog import DatasetSpec
from topolora_hf.data.errors import DataError
from topolora_hf.files import read_json_object, write_json
from topolora_hf.inference.loading import load_network
from topolora_hf.inference.predictor import Predictor
from topolora_hf.training.classes import TaskClasses
from topolora_hf.training.loop import Trainer
from topolora_hf.training.run import train
from topolora_hf.training.scoring import score_rows
from topolora_hf.training.setup import build_network, load_splits, scored_split, task_settings

_REPEATS = 5


def train_ours(args: RunArguments, on_step: Callable) -> dict:
    """Train an adapter; return the metrics."""
    return train(args, chosen_data(args), on_step=on_step)


def train_baseline(args: RunArguments, on_step: Callable) -> dict:
    """Train a baseline from scratch; return the metrics."""
    return train(args, chosen_data(args), build_baseline, on_step)


def build_baseline(args: RunArguments, spec: DatasetSpec, classes: TaskClasses) -> tuple[nn.Module, AdapterSettings]:
    """Build the baseline that `args.network` names, and the settings with which it predicts."""
    settings = AdapterSettings(base="", preset=args.network, **task_settings(args, spec, classes))
    return create_baseline(args.network, len(classes.labels)), settings


def score_base(args: RunArguments, on_step: Callable) -> dict:
    """Score the network that a run of these settings would start from, without any training."""
    spec, splits = load_splits(args, None)
    network, settings = build_network(args, spec, TaskClasses.of(splits))
    settings.intensity, settings.bands = getattr(splits, "intensity", None), getattr(splits, "bands", None)
    split = "test" if "test" in splits else "validation"
    scores = score_rows(Predictor(network, settings), splits[split])
    metrics = scores.metrics(settings, settings.dataset, split, args.protocol, steps=0)
    scores.save(Path(args.output_dir))
    write_json(Path(args.output_dir, METRICS), metrics)  # last: it says that the run is done
    return metrics


def time_steps(args: RunArguments, on_step: Callable) -> dict:
    """Time a few steps of a run of these settings, and the scoring of one image; nothing is trained to its end."""
    started, moments, found = time.perf_counter(), [], {}

    class Timed(Exception):
        pass

    def stop_after_a_few(trainer: Trainer) -> None:
        moments.append(time.perf_counter())
        if len(moments) <= _REPEATS:
            return
        split = scored_split(trainer.splits)
        trainer.score(split, 1)
        found.update(
            seconds_per_step=statistics.median(later - earlier for earlier, later in pairwise(moments)),
            seconds_per_image=round(time.perf_counter() - moments[-1], 3),
            images=len(trainer.splits[split]),
            seconds_to_start=round(moments[0] - started, 1),
        )
        raise Timed

    with contextlib.suppress(Timed):
        train(args, chosen_data(args), on_step=stop_after_a_few)
    write_json(Path(args.output_dir, METRICS), found)
    return found


COMMANDS: dict[str, tuple[type, Callable[..., dict]]] = {
    "train": (RunArguments, train_ours),
    "train_baseline": (RunArguments, train_baseline),
    "train_objective": (ObjectiveRunArguments, train_objective),
    "score": (ScoreArguments, lambda args, on_step: score(args)),
    "score_baseline": (ScoreArguments, lambda args, on_step: score(args, load_baseline(args.adapter))),
    "score_anchor": (AnchorArguments, lambda args, on_step: score(args)),
    "score_base": (RunArguments, score_base),
    "time_steps": (RunArguments, time_steps),
}


def run_worker(command: str, settings: Path) -> None:
    """Do one job and write what it took."""
    arguments, work = COMMANDS[command]
    args = arguments(**read_json_object(settings))
    started, steps = time.monotonic(), []
    result = work(args, lambda *_: steps.append(time.perf_counter()))
    between = [later - earlier for earlier, later in pairwise(steps)]
    resources = {
        # A run that was resumed counts the time before the stop, too.
        "seconds": result.get("seconds", round(time.monotonic() - started, 1)),
        # Validations and checkpoints come between two steps and do not touch the median.
        "seconds_per_step": statistics.median(between) if between else None,
        "peak_memory_bytes": _peak_memory_bytes(),  # before the network is loaded once more, below
        "machine": describe_machine(),
    }
    run = Path(args.output_dir)
    if command == "train":
        resources |= _cost_of_use(run / "adapter", partial(load_network, str(run / "adapter"), args.base))
    elif command == "train_baseline":
        resources |= _cost_of_use(run / "network", partial(load_baseline, run / "network"))
    elif command == "train_objective":
        resources |= cost_of_objective(args)
    write_json(settings.with_name("resources.json"), resources)


def chosen_data(args: RunArguments) -> dict[str, Sequence[dict]] | None:
    """Load the data and keep `train_images` of its training rows; None (train loads it) if all are kept.

    The rows are the first of one permutation, so that a larger number adds images to those of a smaller one.
    """
    if args.train_images is None:
        return None
    splits = args.load()
    rows = splits["train"]
    if args.train_images > len(rows):
        raise DataError(
            f"train_images is {args.train_images}, data set {args.dataset} has {len(rows)} training images "
            f"(validation_fraction is {args.validation_fraction})"
        )
    if splits.intensity is not None:
        raise DataError(
            f"train_images is for images of 8 bits: those of {args.dataset} have more, and their scaling was fitted on "
            "all training images"
        )
    drawn = sorted(np.random.default_rng(args.seed).permutation(len(rows))[: args.train_images].tolist())
    chosen = copy.copy(splits)  # with what it says of its classes
    chosen["train"] = rows.select(drawn)
    return chosen


def _cost_of_use(saved: Path, load: Callable[[], nn.Module]) -> dict[str, float]:
    """Measure the size of the file that a run wrote, and the time that a tile takes with it."""
    predictor = Predictor(load())
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
    """Return the peak of the graphics card if there is one, else of this process without those that load its data."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else largest_resident_bytes()


if __name__ == "__main__":
    run_worker(sys.argv[1], Path(sys.argv[2]))
