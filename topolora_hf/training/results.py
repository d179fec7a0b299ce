"""What a run ends with: choices made on the validation images, scores, and the files that hold them."""

import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from peft import PeftModel
from torch import nn

from ..adapter_format.settings import AdapterSettings
from ..adapters.creation import save_adapter
from ..adapters.parameters import parameter_table
from ..files import replacing_directory, write_json
from ..hub.model_card import render_model_card
from ..metrics.report import score_set
from ..metrics.thresholds import best_threshold
from ..pictures.curves import save_curves
from .arguments import TrainArguments
from .checkpoints import trained_tensors
from .numerics import require_finite

if TYPE_CHECKING:
    from .loop import Trainer


def score_and_save(trainer: "Trainer", split: str, before: dict | None) -> dict:
    """Chooses what validation images choose, scores, and writes results and network; returns the metrics."""
    args, settings, run = trainer.args, trainer.settings, trainer.run
    if args.calibrate:
        scaling = trainer.fit_calibration()
        settings.temperature, settings.logit_bias = scaling.temperature, scaling.bias
        settings.threshold = float(scaling(settings.threshold))  # the masks stay as they were
    if args.choose_threshold:
        settings.threshold = best_threshold(trainer.score("validation").counts)
    scores = trainer.score(split)
    summary = scores.summary()
    if args.calibrate:
        summary |= {"temperature": settings.temperature, "logit_bias": settings.logit_bias}
        summary |= _calibration_before(trainer, split)
    metrics = _metrics(trainer, split, summary, before, time.monotonic() - trainer.started)
    if trainer.accelerator.is_main_process:
        require_finite(trained_tensors(trainer.network))
        _save_trained(trainer.accelerator.unwrap_model(trainer.model), args, settings, metrics, run)
        scores.save(run, settings.threshold)
        save_curves(run / "curves.png", trainer.history)
        write_json(run / "metrics.json", metrics)  # last: it says that the run is done
    return metrics


def _calibration_before(trainer: "Trainer", split: str) -> dict[str, float]:
    """Calibration errors of the network's own probabilities, by the threshold that gives the same masks there."""
    same_masks = float(trainer.settings.calibration.inverse()(trainer.settings.threshold))
    scores = score_set(trainer.score(split, temperature=1.0, logit_bias=0.0, threshold=same_masks).rows)
    return {f"{name}_before": scores[name] for name in ("ece", "ece_foreground")}


def _metrics(trainer: "Trainer", split: str, scores: dict, before: dict | None, seconds: float) -> dict:
    args, settings = trainer.args, trainer.settings
    everything = parameter_table(trainer.network)[-1]
    metrics = {
        "dataset": settings.dataset,
        "split": split,
        "protocol": args.protocol,
        "preset": args.preset,
        "base": settings.base or None,
        "threshold": settings.threshold,
        "seed": args.seed,
        **scores,
    }
    if before is not None:
        metrics |= {"dice_before": before["dice"], "cldice_before": before["cldice"]}
    return metrics | {
        "test_time_flips": settings.test_time_flips,
        "test_time_scales": list(settings.test_time_scales),
        "steps": trainer.max_steps,
        "seconds": round(seconds, 1),
        "trainable_parameters": everything["trainable"],
        "total_parameters": everything["total"],
    }


def _save_trained(model: nn.Module, args: TrainArguments, settings: AdapterSettings, metrics: dict, run: Path) -> None:
    """`adapter/`, with its model card in place of PEFT's own README.md; `network/` where the whole base was trained.

    What an overwritten run left of the other kind goes, unless it is the base of this one.
    """
    name, other = ("adapter", "network") if isinstance(model, PeftModel) else ("network", "adapter")
    with replacing_directory(run / name) as directory:
        if not isinstance(model, PeftModel):
            model.adapter_settings = settings  # which `save_pretrained` writes beside the weights
            model.save_pretrained(directory)
        else:
            save_adapter(model, settings, directory)
            card = render_model_card({**asdict(args), **asdict(settings)}, metrics, parameters=parameter_table(model))
            card.save(directory / "README.md")
    if Path(args.base).resolve() != (run / other).resolve():
        shutil.rmtree(run / other, ignore_errors=True)
