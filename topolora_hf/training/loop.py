"""The training loop: one `accelerate.Accelerator`, one run directory."""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from peft import PeftModel
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import get_cosine_schedule_with_warmup

from ..adapters import (
    AdapterSettings,
    create_adapter,
    format_parameter_table,
    parameter_table,
    preset_network_settings,
    public_base_name,
    save_adapter,
)
from ..data import (
    CATALOG,
    Augmentation,
    DatasetSpec,
    TileDataset,
    find_dataset,
    largest_half_width,
    load_segmentation_data,
)
from ..hub.model_card import render_model_card
from ..inference.pictures import save_curves, save_samples
from ..inference.predictor import Predictor
from ..metrics import score_set, write_per_image_csv
from ..network import TopoSamForSegmentation
from ..objective import TopoLoss
from .arguments import TrainArguments
from .checkpoints import load_checkpoint, save_checkpoint
from .run_directory import write_history, write_json
from .scoring import score_rows

logger = logging.getLogger(__name__)

_STEPS_AN_EPOCH = 100  # at least: an epoch is also the interval of checkpoints
_MOST_ITERATIONS = 10  # of soft erosion: what is left inside a wider structure counts as its skeleton


def train(args: TrainArguments, data: dict[str, Sequence[dict]] | None = None) -> dict:
    """Trains an adapter, scores it, and fills the run directory.

    Args:
        args: see `TrainArguments`.
        data: splits of decoded rows in place of `load_segmentation_data(args.dataset, ...)`.

    Returns:
        What metrics.json holds.

    Raises:
        DataError: the data cannot be used; the message lists every problem.
        ValueError: settings that cannot be met.
        FloatingPointError: the loss is not finite; the message names the images of the batch.
    """
    started = time.monotonic()
    accelerator = Accelerator(
        mixed_precision=_precision(args.mixed_precision),
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        log_with=args.log_with,
        project_dir=args.output_dir,
        step_scheduler_with_optimizer=False,
    )
    set_seed(args.seed)
    run = Path(args.output_dir)
    spec, splits = _load_data(args, data)
    network, settings = _build_network(args, spec)
    criterion = _build_criterion(args, splits["train"], settings)
    model = create_adapter(network, args.preset, rank=args.rank)
    if args.gradient_checkpointing:
        network.gradient_checkpointing_enable()

    if accelerator.is_main_process:
        run.mkdir(parents=True, exist_ok=True)
        write_json(run / "train_args.json", asdict(args))
        _announce(accelerator, args, splits, settings, criterion, model)
    if args.log_with:
        accelerator.init_trackers("topolora_hf", config=asdict(args))

    trainer = Trainer(args, accelerator, run, model, criterion, splits, settings)
    scored_split = "test" if "test" in splits else "validation"
    before = trainer.score(scored_split)[0] if args.score_untrained else None
    trainer.run_steps()
    scores, rows, samples = trainer.score(scored_split, keep_samples=6)
    metrics = _metrics(args, settings, scored_split, scores, before, model, time.monotonic() - started)
    if accelerator.is_main_process:
        save_adapter(accelerator.unwrap_model(trainer.model), settings, run / "adapter")
        write_json(run / "metrics.json", metrics)
        write_per_image_csv(run / "per_image.csv", rows)
        save_samples(run / "samples.png", samples, settings.threshold)
        save_curves(run / "curves.png", trainer.history)
        _write_card(run, args, settings, metrics, parameter_table(model))
    accelerator.end_training()
    return metrics


class Trainer:
    """The state of a run: model, optimizer, schedule, history; and the steps that change it."""

    def __init__(
        self,
        args: TrainArguments,
        accelerator: Accelerator,
        run: Path,
        model: PeftModel,
        criterion: TopoLoss,
        splits: dict[str, Sequence[dict]],
        settings: AdapterSettings,
    ):
        self.args, self.accelerator, self.run, self.splits, self.settings = args, accelerator, run, splits, settings
        self.step, self.epoch, self.history = 0, 0, []
        self.tiles = _tiles(args, splits["train"], settings, accelerator.num_processes)
        loader = DataLoader(
            self.tiles,
            batch_size=args.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=args.num_workers,
            persistent_workers=args.num_workers > 0,
            generator=torch.Generator().manual_seed(args.seed),
        )
        optimizer = torch.optim.AdamW(_parameter_groups(model, criterion, args.weight_decay), lr=args.learning_rate)
        warmup = round(args.warmup_fraction * args.max_steps)
        scheduler = get_cosine_schedule_with_warmup(optimizer, warmup, args.max_steps)
        self.model, self.optimizer, self.loader, self.scheduler = accelerator.prepare(
            model, optimizer, loader, scheduler
        )
        self.criterion = criterion.to(accelerator.device)

    @property
    def checkpoint(self) -> Path:
        return self.run / "checkpoint"

    def run_steps(self) -> None:
        """Steps until `max_steps`, with a validation every `evaluate_every` and a checkpoint an epoch."""
        if self.args.resume:
            self._resume()
        bar = tqdm(
            initial=self.step, total=self.args.max_steps, desc="training", disable=not self.accelerator.is_main_process
        )
        while self.step < self.args.max_steps:
            self.tiles.set_epoch(self.epoch)
            self.loader.set_epoch(self.epoch)
            self.model.train()
            for batch in self.loader:
                if self._step_batch(batch):
                    bar.update()
                    self._after_step(bar)
                    if self.step == self.args.max_steps:
                        break
            self.epoch += 1
            self._write_checkpoint()
        bar.close()

    def _step_batch(self, batch: dict) -> bool:
        """One batch forward and backward; True when it completed an optimizer step."""
        args = self.args
        self.criterion.progress = self.step / args.max_steps
        with self.accelerator.accumulate(self.model):
            pixel_values = batch["pixel_values"].contiguous(memory_format=torch.channels_last)
            logits = self.model(pixel_values=pixel_values).logits
            losses = self.criterion(logits, batch["labels"], batch["valid_mask"], batch.get("skeleton"))
            if not torch.isfinite(losses.total):
                raise FloatingPointError(
                    f"the loss is {losses.total.item()} at step {self.step} on images {', '.join(batch['id'])}"
                )
            self.accelerator.backward(losses.total)
            if not self.accelerator.sync_gradients:
                return False
            self.accelerator.clip_grad_norm_(self.model.parameters(), args.max_grad_norm)
            self.optimizer.step()
            self.scheduler.step()
            self.optimizer.zero_grad()
        self.losses = losses
        self.step += 1
        return True

    def _after_step(self, bar: tqdm) -> None:
        args = self.args
        last = self.step == args.max_steps
        if self.step % args.log_every == 0 or last:
            names = ("loss", "bce", "dice_loss", "cldice_loss")
            values = self.accelerator.gather(torch.stack(self.losses).detach()[None]).mean(0).tolist()
            row = {"step": self.step, "epoch": self.epoch, **dict(zip(names, values, strict=True))}
            row["learning_rate"] = self.scheduler.get_last_lr()[0]
            self._log(row)
            bar.set_postfix(loss=f"{row['loss']:.3f}")
        if "validation" in self.splits and (self.step % args.evaluate_every == 0 or last):
            scores, *_ = self.score("validation")
            self._log({"step": self.step, "epoch": self.epoch, **{f"val_{key}": scores[key] for key in scores}})
            bar.write(f"step {self.step}: validation dice {scores['dice']:.4f}, clDice {scores['cldice']:.4f}")
            self.model.train()

    def _log(self, row: dict) -> None:
        self.history.append(row)
        if self.args.log_with:
            self.accelerator.log({key: value for key, value in row.items() if key != "step"}, step=row["step"])
        if self.accelerator.is_main_process:
            write_history(self.run / "history.csv", self.history)

    def score(self, split: str, keep_samples: int = 0) -> tuple[dict, list[dict], list[dict]]:
        """Mean scores of a split, its per-image scores, and the first images with their probabilities."""
        # The wrapper that Accelerate put around `forward` stays: it is what runs in mixed precision.
        model = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=True)
        predictor = Predictor(model, self.settings, device=self.accelerator.device)
        rows, samples = score_rows(predictor, self.splits[split], self.accelerator, keep_samples, f"scoring {split}")
        return score_set(rows), rows, samples

    def _write_checkpoint(self) -> None:
        if not self.accelerator.is_main_process:
            return
        note = {"step": self.step, "epoch": self.epoch, "history": self.history, "arguments": asdict(self.args)}
        model = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=True)
        save_checkpoint(self.checkpoint, model, self.criterion, self.optimizer, self.scheduler, note)

    def _resume(self) -> None:
        model = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=True)
        note = load_checkpoint(self.checkpoint, model, self.criterion, self.optimizer, self.scheduler)
        changed = _changed_settings(note["arguments"], asdict(self.args))
        if changed:
            raise ValueError(f"cannot resume {self.run} with other settings: {'; '.join(changed)}")
        self.step, self.epoch, self.history = note["step"], note["epoch"], note["history"]


def _load_data(args: TrainArguments, data: dict | None) -> tuple[DatasetSpec, dict[str, Sequence[dict]]]:
    if data is not None:
        return CATALOG["folder"], data
    spec, _ = find_dataset(args.dataset, args.data_dir)
    splits = load_segmentation_data(
        args.dataset,
        args.data_dir,
        args.protocol,
        validation_fraction=args.validation_fraction,
        seed=args.seed,
        skip_bad=args.skip_bad,
        allow_partial=args.allow_partial,
    )
    if "test" not in splits and "validation" not in splits:
        raise ValueError(f"data set {args.dataset} leaves nothing to score: raise validation_fraction above 0")
    return spec, dict(splits)


def _build_network(args: TrainArguments, spec: DatasetSpec) -> tuple[TopoSamForSegmentation, AdapterSettings]:
    form = preset_network_settings(args.preset)
    if args.detail_channels is not None:
        if form.get("detail_channels") == 0 and args.detail_channels:
            raise ValueError(f"preset {args.preset!r} has no detail branch, got detail_channels={args.detail_channels}")
        form["detail_channels"] = args.detail_channels
    form["tile_size"] = args.tile_size or spec.tile_size
    if args.image_size is not None:
        form["image_size"] = args.image_size
    network = TopoSamForSegmentation.from_pretrained(args.base, **form)
    settings = AdapterSettings(
        base=public_base_name(network.name_or_path),
        preset=args.preset,
        image_size=network.config.image_size,
        tile_size=network.config.tile_size,
        detail_channels=network.config.detail_channels,
        spatial_adapter_form=network.config.spatial_adapter_form,
        use_sam=network.config.use_sam,
        view=spec.view,
        threshold=args.threshold,
        dataset=spec.name,
    )
    return network, settings


def _build_criterion(args: TrainArguments, rows: Sequence[dict], settings: AdapterSettings) -> TopoLoss:
    iterations = args.skeleton_iterations
    if iterations is None:
        whole = settings.tile_size if settings.view == "whole" else None
        # The first opening already takes one pixel off each side.
        half_width = largest_half_width(rows, whole_tile_size=whole)
        iterations = min(max(half_width - 1, 1), _MOST_ITERATIONS)
    return TopoLoss(
        iterations=iterations,
        cldice_weight=args.cldice_weight,
        schedule=args.cldice_schedule,
        target_skeleton=args.target_skeleton,
    )


def _tiles(args: TrainArguments, rows: Sequence[dict], settings: AdapterSettings, processes: int) -> TileDataset:
    """Tiles enough for an epoch of 100 steps, so that small data sets do not spend their time between epochs."""
    tiles_an_epoch = _STEPS_AN_EPOCH * args.batch_size * args.gradient_accumulation_steps * processes
    return TileDataset(
        rows,
        settings.tile_size,
        view=settings.view,
        tiles_per_image=math.ceil(tiles_an_epoch / len(rows)),
        seed=args.seed,
        augmentation=Augmentation() if args.augmentation else None,
        image_mean=settings.image_mean,
        image_std=settings.image_std,
        with_skeleton=args.target_skeleton == "hard",
    )


def _parameter_groups(model: PeftModel, criterion: TopoLoss, weight_decay: float) -> list[dict]:
    """Matrices and kernels decay; norms, biases and the objective's own weights do not."""
    trained = [p for p in (*model.parameters(), *criterion.parameters()) if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _precision(choice: str) -> str:
    """`auto` is bf16 where it is faster: on GPUs that have it, and on CPUs with bf16 instructions."""
    if choice != "auto":
        return choice
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "no"


def _changed_settings(before: dict, now: dict) -> list[str]:
    ignored = {"resume", "output_dir", "num_workers", "log_with", "data_dir"}
    return [
        f"{name} was {before.get(name)!r}, is {value!r}"
        for name, value in now.items()
        if name not in ignored and before.get(name) != value
    ]


def _announce(accelerator, args, splits, settings, criterion, model) -> None:
    counts = ", ".join(f"{len(rows)} {split}" for split, rows in splits.items())
    print(f"data      {args.dataset}: {counts} images, view {settings.view}, tiles of {settings.tile_size} pixels")
    print(
        f"base      {settings.base}, encoder at {settings.image_size} pixels, {accelerator.mixed_precision} precision"
    )
    print(
        f"objective BCE + Dice + {args.cldice_weight} clDice ({args.cldice_schedule}), {criterion.iterations} erosions"
    )
    print(format_parameter_table(parameter_table(model)))


def _metrics(
    args: TrainArguments,
    settings: AdapterSettings,
    split: str,
    scores: dict,
    before: dict | None,
    model: PeftModel,
    seconds: float,
) -> dict:
    everything = parameter_table(model)[-1]
    metrics = {
        "dataset": settings.dataset,
        "split": split,
        "protocol": args.protocol,
        "preset": args.preset,
        "base": settings.base,
        "threshold": settings.threshold,
        "seed": args.seed,
        **scores,
    }
    if before is not None:
        metrics |= {"dice_before": before["dice"], "cldice_before": before["cldice"]}
    return metrics | {
        "steps": args.max_steps,
        "seconds": round(seconds, 1),
        "trainable_parameters": everything["trainable"],
        "total_parameters": everything["total"],
    }


def _write_card(run: Path, args: TrainArguments, settings: AdapterSettings, metrics: dict, table: list[dict]) -> None:
    """The model card; PEFT's own README.md in the adapter's directory gives way to it."""
    card = render_model_card({**asdict(args), **asdict(settings)}, metrics, parameters=table)
    card.save(run / "adapter" / "README.md")
