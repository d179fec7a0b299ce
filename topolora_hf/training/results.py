"""How a run ends: calibration, the saved network, scores, and the files that hold them."""

import shutil
import time
from collections.abc import Sequence
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
from ..metrics.platt_scaling import PlattScaling
from ..metrics.report import score_set
from ..pictures.plots import save_curves
from .arguments import TrainArguments
from .checkpoints import trained_tensors
from .classes import TaskClasses
from .numerics import require_finite
from .progress import METRICS
from .setup import scored_split

if TYPE_CHECKING:
    from .loop import Trainer

_MOST_UNTRAINED = 8  # images that the base is scored on
_UNCALIBRATED = {"temperature": 1.0, "logit_bias": 0.0}


def score_and_save(trainer: "Trainer") -> dict:
    """Calibrate, save the network, then score it and write the results; return the metrics.

    The network is saved before anything is scored: a crash while scoring loses nothing.
    """
    args, settings, run, split = trainer.args, trainer.settings, trainer.run, scored_split(trainer.splits)
    uncalibrated = {"threshold": settings.threshold, **_UNCALIBRATED}
    is_main = trainer.accelerator.is_main_process
    if args.calibrate != "none":
        _calibrate(settings, trainer.fit_calibration(args.calibrate))
    model = trainer.accelerator.unwrap_model(trainer.model)
    if is_main:
        require_finite(trained_tensors(trainer.network))
        _save_network(model, args, settings, run)
    scores = trainer.score(split)
    before, total = _before(trainer, split, uncalibrated), parameter_table(trainer.network)[-1]
    cost = {"steps": trainer.max_steps, "seconds": round(time.monotonic() - trainer.started, 1)}
    cost |= {"trainable_parameters": total["trainable"], "total_parameters": total["total"]}
    metrics = scores.metrics(settings, settings.dataset, split, args.protocol, seed=args.seed, **before, **cost)
    if is_main:
        scores.save(run)
        save_curves(run / "curves.png", trainer.history)
        if isinstance(model, PeftModel):
            thin = TaskClasses(settings.labels, settings.exclusive, trainer.criterion.thin).thin_labels
            shown = {**asdict(args), **asdict(settings), "thin": thin}
            card = render_model_card(shown, metrics, parameters=parameter_table(model), dataset=trainer.spec)
            card.save(run / "adapter" / "README.md")
        write_json(run / METRICS, metrics)  # last: it says that the run is done
    return metrics


def _calibrate(settings: AdapterSettings, scalings: Sequence[PlattScaling]) -> None:
    """Note the scaling of each class. The masks stay as they were; those of exclusive classes nearly."""
    numbers = {
        "threshold": [float(scale(t)) for scale, t in zip(scalings, settings.thresholds, strict=True)],
        "temperature": [scale.temperature for scale in scalings],
        "logit_bias": [scale.bias for scale in scalings],
    }
    for name, values in numbers.items():
        setattr(settings, name, tuple(values) if len(values) > 1 else values[0])


def _before(trainer: "Trainer", split: str, uncalibrated: dict) -> dict:
    """Scores without the calibration, and of the base without the adapter, where the run wants them."""
    before = {}
    if trainer.args.calibrate != "none":
        scores = score_set(trainer.score(split, **uncalibrated).rows)
        before |= {f"{name}_before": scores[name] for name in ("ece", "ece_foreground")}
    if trainer.args.score_untrained:
        with trainer.network.disable_adapter():
            scores = trainer.score(split, _MOST_UNTRAINED, threshold=AdapterSettings.threshold, **_UNCALIBRATED)
        means = score_set(scores.rows)
        before |= {"dice_before": means["dice"], "cldice_before": means["cldice"], "n_before": means["n"]}
    return before


def _save_network(model: nn.Module, args: TrainArguments, settings: AdapterSettings, run: Path) -> None:
    """Write `adapter/`, or `network/` if the base itself or a baseline was trained. Remove an old run's other one."""
    name, other = ("adapter", "network") if isinstance(model, PeftModel) else ("network", "adapter")
    with replacing_directory(run / name) as directory:
        if isinstance(model, PeftModel):
            save_adapter(model, settings, directory)
        else:
            model.adapter_settings = settings  # which `save_pretrained` writes beside the weights
            model.save_pretrained(directory)
    if Path(args.base).resolve() != (run / other).resolve():  # the base of this run stays
        shutil.rmtree(run / other, ignore_errors=True)


def next_steps(args: TrainArguments, metrics: dict) -> str:
    """Say which files a run wrote, and which command comes next."""
    run, adapter = Path(args.output_dir), Path(args.output_dir) / "adapter"
    lines = ["note      the scores are of 1 image: they say little"] if metrics["n"] == 1 else []
    lines.append(f"scores    {run / METRICS}, {run / 'per_image.csv'}")
    lines.append(f"pictures  {run / 'samples.png'}, best_and_worst.png, curves.png, ...")
    if adapter.is_dir():
        base = f" --base {args.base}" if Path(args.base).exists() else ""
        lines += [f"card      {adapter / 'README.md'}", f"adapter   {adapter}"]
        lines.append(f"next      topolora predict --adapter {adapter}{base} --images YOUR_IMAGES")
    else:
        lines.append(f"network   {run / 'network'}")
    return "\n".join(lines)
