"""One run of the study of objectives, and what its objective costs."""

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.utils.data import default_collate

from engine.arguments import RunArguments
from rival_losses import OBJECTIVES
from topolora_hf import TopoLoss
from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.inference.loading import load_network
from topolora_hf.settings import option
from topolora_hf.training import setup
from topolora_hf.training.run import train

USUAL = "cldice"
_REPEATS = 15


@dataclass(kw_only=True)
class ObjectiveRunArguments(RunArguments):
    """Settings of a run: those of training, and the objective's name; cldice_weight is that of its third term."""

    objective: str = option(USUAL, "what is minimised", choices=tuple(OBJECTIVES))


def build_objective(
    args: ObjectiveRunArguments, rows: Sequence[dict], settings: AdapterSettings, thin: Sequence[bool] = (True,)
) -> TopoLoss:
    """Build the run's objective, with the erosions that clDice has."""
    usual = setup.build_criterion(args, rows, settings, thin)
    kind, _ = OBJECTIVES[args.objective]
    print(f"study     objective {args.objective}: {kind.__name__}, third term weighted {args.cldice_weight:g}")
    form = {"exclusive": settings.exclusive, "thin": thin}
    return kind(usual.iterations, args.cldice_weight, args.cldice_schedule, **form)


def train_objective(args: ObjectiveRunArguments, on_step: Callable) -> dict:
    """Train with the run's objective and score its validation images: test images are taken away before."""
    return train(args, _without_test(args), on_step=on_step, build_criterion=build_objective)


def _without_test(args: RunArguments) -> dict[str, Sequence[dict]]:
    splits = copy.copy(args.load())
    splits.pop("test", None)
    return splits


def cost_of_objective(args: ObjectiveRunArguments) -> dict[str, float]:
    """Time the run's objective beside clDice, forward and backward, on tiles and logits of the trained network.

    Returns:
        `loss_seconds`, the processor's median time a batch; `loss_ratio`, the same over clDice's, measured in turns.
    """
    network = load_network(str(Path(args.output_dir, "adapter")), args.base)
    spec, splits = setup.load_splits(args, _without_test(args))
    settings = network.get_base_model().adapter_settings
    tiles = setup.build_tiles(args, splits["train"], settings, spec.augmentation, 1)
    picked = range(0, len(tiles), len(tiles) // args.batch_size)
    batch = default_collate([tiles[number] for number in picked[: args.batch_size]])
    with torch.no_grad():
        logits = network(pixel_values=batch["pixel_values"]).logits.float()
    usual = replace(args, objective=USUAL, cldice_weight=OBJECTIVES[USUAL][1])
    losses = {name: build_objective(one, splits["train"], settings) for name, one in (("own", args), ("usual", usual))}
    seconds = {name: [] for name in losses}
    for _ in range(_REPEATS):
        for name, loss in losses.items():
            leaf, started = logits.clone().requires_grad_(), time.process_time()
            loss(leaf, batch["labels"], batch["valid_mask"], batch["skeleton"]).total.backward()
            seconds[name].append(time.process_time() - started)
    own, usual = (statistics.median(seconds[name]) for name in ("own", "usual"))
    return {"loss_seconds": own, "loss_ratio": own / usual}
