"""The training loop: one `accelerate.Accelerator`, one run directory."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, gather_object, set_seed
from peft import PeftModel
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import get_cosine_schedule_with_warmup

from ..adapters import (
    AdapterSettings,
    create_adapter,
    format_parameter_table,
    get_preset,
    parameter_table,
    unfreeze,
)
from ..data import TileDataset
from ..hub import open_repository, push_adapter
from ..inference.predictor import Predictor
from ..metrics import score_set
from ..metrics.temperature import fit_temperature, logit_counts
from ..objective import TopoLoss
from .arguments import TrainArguments, changed_settings
from .averaging import WeightAverage
from .checkpoints import load_checkpoint, read_note, save_checkpoint, trained_tensors
from .results import score_and_save
from .run_directory import write_history, write_json
from .scoring import SplitScores, score_rows
from .setup import (
    build_accelerator,
    build_criterion,
    build_feature_cache,
    build_network,
    build_tiles,
    compile_regions,
    count_steps,
    load_splits,
    parameter_groups,
    typical_disc_diameter,
)

_CHECKPOINT = "checkpoint"
_FREE_ON_RESUMING = {"resume", "output_dir", "num_workers", "num_threads", "log_with", "data_dir"}
_FREE_ON_RESUMING |= {"push_to_hub", "hub_model_id", "private"}


def train(args: TrainArguments, data: dict[str, Sequence[dict]] | None = None) -> dict:
    """Trains an adapter, a whole base or a specialist, scores it, and fills the run directory.

    Args:
        args: see `TrainArguments`.
        data: splits of decoded rows in place of `load_segmentation_data(args.dataset, ...)`.

    Returns:
        What metrics.json holds.

    Raises:
        DataError: the data cannot be used; the message lists every problem.
        ValueError: settings that cannot be met.
        PushError: with push_to_hub, the Hub refused, or could not be reached; a trained adapter stays in its directory.
        OSError: the base cannot be loaded, or there is no checkpoint to resume from.
        FloatingPointError: the loss is not finite; the message names the images of the batch.
    """
    started = time.monotonic()
    accelerator = build_accelerator(args)
    set_seed(args.seed)
    run = Path(args.output_dir)
    if args.push_to_hub and accelerator.is_main_process:
        open_repository(args.repository, args.private)  # before the work, not after it, is the time to be refused
    if args.resume:
        _require_same_run(run, args, accelerator.num_processes)
    with accelerator.main_process_first():  # it unpacks or downloads, the others find it done
        spec, splits = load_splits(args, data)
    network, settings = build_network(args, spec)
    settings.intensity = getattr(splits, "intensity", None)
    settings.disc_diameter = typical_disc_diameter(args, spec, splits["train"])
    criterion = build_criterion(args, splits["train"], settings)
    if args.is_specialist:
        model = network
    elif get_preset(args.preset).whole:
        model = unfreeze(network)
    else:
        model = create_adapter(network, args.preset, rank=args.rank, lora_layers=args.lora_layers)
    if args.gradient_checkpointing:
        network.gradient_checkpointing_enable()
    if args.compile:
        compile_regions(network)

    if accelerator.is_main_process:
        run.mkdir(parents=True, exist_ok=True)
        write_json(run / "train_args.json", asdict(args))
        _announce(accelerator, args, splits, settings, criterion, model)
    if args.log_with:
        settings_given = {name: value for name, value in asdict(args).items() if value is not None}
        accelerator.init_trackers("topolora_hf", config=settings_given)

    tiles = build_tiles(args, splits["train"], settings, spec.augmentation, accelerator.num_processes)
    trainer = Trainer(args, accelerator, run, model, criterion, tiles, splits, settings)
    scored_split = "test" if "test" in splits else "validation"
    before = score_set(trainer.score(scored_split).rows) if args.score_untrained else None
    try:
        trainer.run_steps()
    finally:
        trainer.close()
    with trainer.averaged():
        metrics = score_and_save(trainer, scored_split, before, started)
    # The wrapper that averages gradients has to go before the process group that it uses: freed after it, it can wait
    # for ever for a thread of the group (seen with torch 2.13 on CPUs).
    del trainer
    accelerator.free_memory()
    accelerator.end_training()
    if args.push_to_hub and accelerator.is_main_process:
        print(f"pushed to {push_adapter(run, args.repository, args.private)}")
    return metrics


class Trainer:
    """The state of a run: model, optimizer, schedule, history; and the steps that change it."""

    def __init__(
        self,
        args: TrainArguments,
        accelerator: Accelerator,
        run: Path,
        model: nn.Module,
        criterion: TopoLoss,
        tiles: TileDataset,
        splits: dict[str, Sequence[dict]],
        settings: AdapterSettings,
    ):
        self.args, self.accelerator, self.run, self.settings = args, accelerator, run, settings
        self.tiles, self.splits = tiles, splits
        self.step, self.epoch, self.history = 0, 0, []
        self.max_steps = count_steps(args, len(tiles.rows), accelerator.num_processes)
        self.batch_losses = []  # since the last optimizer step
        features = run / f"features-{accelerator.process_index}.bin"
        base = model.get_base_model() if isinstance(model, PeftModel) else model
        self.features = build_feature_cache(args, base, tiles, features)
        loader = DataLoader(
            tiles,
            batch_size=args.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=args.num_workers,
            persistent_workers=args.num_workers > 0,
            generator=torch.Generator().manual_seed(args.seed),
        )
        optimizer = torch.optim.AdamW(parameter_groups(args, model, criterion), fused=True)
        warmup = round(args.warmup_fraction * self.max_steps)
        scheduler = get_cosine_schedule_with_warmup(optimizer, warmup, self.max_steps)
        self.model, self.optimizer, self.loader, self.scheduler = accelerator.prepare(
            model, optimizer, loader, scheduler
        )
        self.criterion = criterion.to(accelerator.device)
        self.average = WeightAverage(trained_tensors(self.network), args.ema_decay) if args.ema_decay else None

    @property
    def network(self) -> nn.Module:
        """The model without what averages its gradients; in mixed precision, as Accelerate made it run."""
        return self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=True)

    @property
    def checkpoint(self) -> Path:
        return self.run / _CHECKPOINT

    def run_steps(self) -> None:
        """Steps until `max_steps`, with a validation every `evaluate_every` and a checkpoint an epoch."""
        if self.args.resume:
            self._resume()
        bar = tqdm(
            initial=self.step, total=self.max_steps, desc="training", disable=not self.accelerator.is_main_process
        )
        while self.step < self.max_steps:
            self.tiles.set_epoch(self.epoch)
            self.loader.set_epoch(self.epoch)
            self.model.train()
            for batch in self.loader:
                if self._step_batch(batch):
                    bar.update()
                    self._after_step(bar)
                    if self.step == self.max_steps:
                        break
            self.epoch += 1
            self._write_checkpoint()
        bar.close()

    def close(self) -> None:
        """Removes what is only of use while steps are run."""
        if self.features is not None:
            self.features.close()

    def _step_batch(self, batch: dict) -> bool:
        """One batch forward and backward; True when it completed an optimizer step."""
        self.criterion.progress = self.step / self.max_steps
        with self.accelerator.accumulate(self.model):
            pixel_values = batch["pixel_values"].contiguous(memory_format=torch.channels_last)
            logits = self.model(pixel_values=pixel_values, **self._frozen_features(batch)).logits
            losses = self.criterion(logits, batch["labels"], batch["valid_mask"], batch.get("skeleton"))
            if not torch.isfinite(losses.total):
                raise FloatingPointError(
                    f"the loss is {losses.total.item()} at step {self.step} on images {', '.join(batch['id'])}"
                )
            self.batch_losses.append(torch.stack(losses).detach())
            self.accelerator.backward(losses.total)
            if not self.accelerator.sync_gradients:
                return False
            self._share_criterion_gradients()
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.args.max_grad_norm)
            self.optimizer.step()
            self.scheduler.step()
            self.optimizer.zero_grad()
        self.losses = torch.stack(self.batch_losses).mean(0)
        self.batch_losses = []
        if self.average is not None:
            self.average.update(self.step)
        self.step += 1
        return True

    def _frozen_features(self, batch: dict) -> dict[str, torch.Tensor]:
        """The keyword argument by which our network goes on from cached features, where they are cached."""
        if self.features is None:
            return {}
        with self.accelerator.autocast():
            return {"frozen_features": self.features(batch["id"], batch["pixel_values"])}

    def _share_criterion_gradients(self) -> None:
        """The objective's own weights lie outside the wrapper that averages the network's over the processes."""
        for parameter in self.criterion.parameters():
            parameter.grad = self.accelerator.reduce(parameter.grad, reduction="mean")

    def _after_step(self, bar: tqdm) -> None:
        args = self.args
        last = self.step == self.max_steps
        if self.step % args.log_every == 0 or last:
            names = ("loss", "bce", "dice_loss", "cldice_loss")
            values = self.accelerator.gather(self.losses[None]).mean(0).tolist()
            row = {"step": self.step, "epoch": self.epoch, **dict(zip(names, values, strict=True))}
            row["learning_rate"] = self.scheduler.get_last_lr()[0]
            self._log(row)
            bar.set_postfix(loss=f"{row['loss']:.3f}")
        if "validation" in self.splits and (self.step % args.evaluate_every == 0 or last):
            with self.averaged():
                scores = score_set(self.score("validation", test_time_flips=False).rows)
            self._log({"step": self.step, "epoch": self.epoch, **{f"val_{key}": scores[key] for key in scores}})
            if self.accelerator.is_main_process:
                bar.write(f"step {self.step}: validation dice {scores['dice']:.4f}, clDice {scores['cldice']:.4f}")
            self.model.train()

    def _log(self, row: dict) -> None:
        self.history.append(row)
        if self.args.log_with:
            self.accelerator.log({key: value for key, value in row.items() if key != "step"}, step=row["step"])
        if self.accelerator.is_main_process:
            write_history(self.run / "history.csv", self.history)

    def averaged(self) -> AbstractContextManager:
        """Within it the network has the average of its weights, where the run keeps one."""
        return nullcontext() if self.average is None else self.average.applied()

    def score(self, split: str, **changes) -> SplitScores:
        """Scores of a split; `changes` are of the settings, for this once."""
        return score_rows(self._predictor(**changes), self.splits[split], self.accelerator, f"scoring {split}")

    def fit_temperature(self) -> float:
        """The temperature that suits the validation images best, the same on every process."""
        predictor, rows = self._predictor(temperature=1.0), self.splits["validation"]
        counts = []
        for number in range(self.accelerator.process_index, len(rows), self.accelerator.num_processes):
            row = rows[number]
            counts.append(logit_counts(predictor.probability(row["image"]), row["mask"] == 1, row["valid_mask"]))
        return fit_temperature(gather_object(counts))

    def _predictor(self, **changes) -> Predictor:
        network = self.network
        # The statistics of a normalisation are those of each process's own batches: all predict with the first one's.
        broadcast(list(network.buffers()))
        # Where the network is already: Accelerate may call it `cpu:0`, for which `.to` would copy all that is trained
        # away from under the average of the weights.
        device = next(network.parameters()).device
        return Predictor(network, replace(self.settings, **changes), device=device)

    def _write_checkpoint(self) -> None:
        if not self.accelerator.is_main_process:
            return
        note = {
            "step": self.step,
            "epoch": self.epoch,
            "history": self.history,
            "arguments": asdict(self.args),
            "processes": self.accelerator.num_processes,
        }
        state = (self.network, self.criterion, self.optimizer, self.scheduler)
        save_checkpoint(self.checkpoint, *state, note, self.average)

    def _resume(self) -> None:
        state = (self.network, self.criterion, self.optimizer, self.scheduler)
        note = load_checkpoint(self.checkpoint, *state, self.average)
        self.step, self.epoch, self.history = note["step"], note["epoch"], note["history"]


def _require_same_run(run: Path, args: TrainArguments, processes: int) -> None:
    """Before anything is read or written: a checkpoint goes on with the settings that it began with."""
    note = read_note(run / _CHECKPOINT)
    changed = changed_settings(note["arguments"], args, _FREE_ON_RESUMING)
    if note["processes"] != processes:
        changed.append(f"the number of processes was {note['processes']}, is {processes}")
    if changed:
        raise ValueError(f"cannot resume {run} with other settings: {'; '.join(changed)}")


def _announce(accelerator, args, splits, settings, criterion, model) -> None:
    counts = ", ".join(f"{len(rows)} {split}" for split, rows in splits.items())
    print(f"data      {args.dataset}: {counts} images, view {settings.view}, tiles of {settings.tile_size} pixels")
    ours = f"base      {settings.base}, encoder at {settings.image_size} pixels"
    from_scratch = f"network   {args.network}, from scratch"
    print(f"{from_scratch if args.is_specialist else ours}, {accelerator.mixed_precision} precision")
    print(
        f"objective BCE + Dice + {args.cldice_weight} clDice ({args.cldice_schedule}), {criterion.iterations} erosions"
    )
    print(format_parameter_table(parameter_table(model)))
