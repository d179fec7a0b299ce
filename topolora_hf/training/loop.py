"""The training loop: one `accelerate.Accelerator`, steps that survive what happens to them."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import torch
from accelerate import Accelerator, skip_first_batches
from accelerate.utils import broadcast, gather_object
from peft import PeftModel
from torch import nn
from torch.utils.data import DataLoader, RandomSampler
from tqdm import tqdm
from transformers import get_cosine_schedule_with_warmup

from ..adapter_format.settings import AdapterSettings
from ..data.tiles import TileDataset
from ..files import write_history
from ..inference.predictor import Predictor
from ..metrics.platt_scaling import PlattScaling, fit_platt_scaling, logit_counts
from ..metrics.report import score_set
from ..objective.losses import TopoLoss
from .arguments import TrainArguments
from .averaging import WeightAverage
from .checkpoints import (
    FOLDER,
    Checkpoint,
    save_checkpoint,
    trained_tensors,
)
from .interruption import (
    RunStopped,
    StopRequest,
    naming_dead_workers,
    obey_only_the_run,
)
from .numerics import NumericsGuard, Statistics
from .progress import tiles_a_step
from .scoring import SplitScores, score_rows
from .setup import build_feature_cache, count_steps, parameter_groups


class Trainer:
    """The state of a run: model, optimizer, schedule, history; and the steps that change it.

    Which tiles a step sees depends on its number, the seed and how many tiles a step has, not on how these are shared
    out over batches and processes.
    """

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
        started: float,
    ):
        self.args, self.accelerator, self.run, self.settings = args, accelerator, run, settings
        self.tiles, self.splits = tiles, splits
        self.step, self.history = 0, []
        self.started = started  # by `time.monotonic`; of a run that goes on, as if it had never been stopped
        self.max_steps = count_steps(args, len(tiles.rows), accelerator.num_processes)
        self.steps_an_epoch = len(tiles) // tiles_a_step(asdict(args), accelerator.num_processes)
        self._written = None  # the step of the last checkpoint
        self._losses, self._ids = [], []  # of the batches since the last optimizer step
        self.losses = None  # of the last step, a mean over its batches; None where it was skipped
        features = run / f"features-{accelerator.process_index}.bin"
        base = model.get_base_model() if isinstance(model, PeftModel) else model
        self.features = build_feature_cache(args, base, tiles, features)
        # An epoch is whole steps: what is left of its last tiles would make a smaller one.
        whole = self.steps_an_epoch * tiles_a_step(asdict(args), accelerator.num_processes)
        generator = torch.Generator().manual_seed(args.seed)
        loader = DataLoader(
            tiles,
            batch_size=args.batch_size,
            sampler=RandomSampler(tiles, num_samples=whole, generator=generator),
            drop_last=True,
            num_workers=args.num_workers,
            persistent_workers=args.num_workers > 0,
            worker_init_fn=obey_only_the_run,
            generator=generator,
        )
        optimizer = torch.optim.AdamW(parameter_groups(args, model, criterion), fused=True)
        warmup = round(args.warmup_fraction * self.max_steps)
        scheduler = get_cosine_schedule_with_warmup(optimizer, warmup, self.max_steps)
        self.model, self.optimizer, self.loader, self.scheduler = accelerator.prepare(
            model, optimizer, loader, scheduler
        )
        self.criterion = criterion.to(accelerator.device)
        if accelerator.num_processes > 1:
            self.criterion.mean_over_processes = lambda value: accelerator.reduce(value, reduction="mean")
        self.average = WeightAverage(trained_tensors(self.network), args.ema_decay) if args.ema_decay else None
        self.guard = NumericsGuard(accelerator, args.on_non_finite)
        self.statistics = Statistics(self.network if args.on_non_finite == "skip" else nn.Module())
        self.dtype = next(model.parameters()).dtype

    @property
    def network(self) -> nn.Module:
        """The model without what averages its gradients; in mixed precision, as Accelerate made it run."""
        return self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=True)

    @property
    def epoch(self) -> int:
        """That of the last step."""
        return max(0, self.step - 1) // self.steps_an_epoch

    def resume(self, checkpoint: Checkpoint) -> None:
        """Goes to where the checkpoint was written."""
        checkpoint.restore(self.network, self.criterion, self.optimizer, self.scheduler, self.average)
        self.step, self.history = checkpoint.note["step"], checkpoint.note["history"]
        self.started -= checkpoint.note.get("seconds", 0.0)  # those of before this was noted say nothing
        self._written = self.step

    def run_steps(self) -> None:
        """Steps until `max_steps`, with a validation every `evaluate_every` and a checkpoint every `checkpoint_every`.

        Raises:
            RunStopped: a signal asked for it; a checkpoint was written.
        """
        bar = tqdm(
            initial=self.step, total=self.max_steps, desc="training", disable=not self.accelerator.is_main_process
        )
        with bar, naming_dead_workers(), StopRequest(self.accelerator) as request:
            while self.step < self.max_steps:
                for batch in self._rest_of_epoch():
                    if not self._step_batch(batch):
                        continue
                    bar.update()
                    self._after_step(bar)
                    stopping, last = request.was_made(), self.step == self.max_steps
                    if stopping or last or self.step % self.args.checkpoint_every == 0:
                        self._write_checkpoint()
                    if stopping:
                        self.accelerator.wait_for_everyone()  # who ends first has the others ended by their launcher
                        raise RunStopped(
                            f"stopped after step {self.step} of {self.max_steps}, with a checkpoint: the same command "
                            "goes on from there",
                            request.number,
                        )
                    if last:
                        break

    def _rest_of_epoch(self) -> Iterable[dict]:
        """The batches of the next step's epoch that no step has seen yet."""
        epoch, done = divmod(self.step, self.steps_an_epoch)
        self.tiles.set_epoch(epoch)
        self.loader.set_epoch(epoch)
        self.model.train()
        if not done:
            return self.loader
        return skip_first_batches(self.loader, done * self.args.gradient_accumulation_steps)

    def close(self) -> None:
        """Removes what is only of use while steps are run."""
        if self.features is not None:
            self.features.close()

    def _step_batch(self, batch: dict) -> bool:
        """One batch forward and backward; True when it completed an optimizer step."""
        self.criterion.progress = self.step / self.max_steps
        with self.accelerator.accumulate(self.model):
            pixel_values = batch["pixel_values"].to(self.dtype).contiguous(memory_format=torch.channels_last)
            output = self.model(pixel_values=pixel_values, **self._frozen_features(batch))
            truth = batch["labels"], batch["valid_mask"]
            losses = self.criterion(output.logits, *truth, batch.get("skeleton"))
            if self.args.coarse_weight:
                coarse = self.criterion.of_coarse(output.coarse_logits, *truth)
                losses = losses._replace(total=losses.total + self.args.coarse_weight * coarse)
            self._losses.append(torch.stack(losses).detach())
            self._ids.append(batch["id"])
            self.accelerator.backward(losses.total)
            if not self.accelerator.sync_gradients:
                return False
            self._share_criterion_gradients()
            self._take_step()
        self.step += 1
        return True

    def _take_step(self) -> None:
        """The optimizer's step, or none where a loss or a gradient is not finite."""
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.args.max_grad_norm)
        norm = torch.stack([norm, *(parameter.grad.norm() for parameter in self.criterion.parameters())]).norm()
        scaler = self.optimizer.scaler
        losses, ids = torch.stack(self._losses), self._ids
        self._losses, self._ids = [], []
        # With a loss scaler, gradients that overflow are its own affair: it leaves the step out and scales less.
        watched = norm if scaler is None else norm.new_zeros(())
        if self.guard.allows(self.step, losses[:, 0], watched, ids):
            self.optimizer.step()
            self.losses = losses.nanmean(0)  # a batch without any target has no clDice
            if self.average is not None:
                self.average.update(self.step)
            self.statistics.keep()
        else:
            if scaler is not None:
                scaler.update()
            self.losses = None
            self.statistics.bring_back()
        self.scheduler.step()
        self.optimizer.zero_grad()

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
            row = {"step": self.step, "epoch": self.epoch}
            if self.losses is not None:
                values = self.accelerator.gather(self.losses[None]).mean(0).tolist()
                row |= dict(zip(("loss", "bce", "dice_loss", "cldice_loss"), values, strict=True))
                bar.set_postfix(loss=f"{row['loss']:.3f}")
            row["learning_rate"] = self.scheduler.get_last_lr()[0]
            self._log(row)
        if "validation" in self.splits and (self.step % args.evaluate_every == 0 or last):
            with self.averaged():
                scores = score_set(self.score("validation", test_time_flips=False, test_time_scales=(1.0,)).rows)
            self._log({"step": self.step, "epoch": self.epoch, **{f"val_{key}": scores[key] for key in scores}})
            if self.accelerator.is_main_process:
                bar.write(f"step {self.step}: validation dice {scores['dice']:.4f}, clDice {scores['cldice']:.4f}")
            self.model.train()

    def _log(self, row: dict) -> None:
        self.history.append(row)
        if self.args.log_with:
            self.accelerator.log({key: value for key, value in row.items() if key != "step"}, step=row["step"])
        if self.accelerator.is_main_process:
            with self._writing("history.csv"):
                write_history(self.run / "history.csv", self.history)

    def averaged(self) -> AbstractContextManager:
        """Within it the network has the average of its weights, where the run keeps one."""
        return nullcontext() if self.average is None else self.average.applied()

    def score(self, split: str, **changes) -> SplitScores:
        """Scores of a split; `changes` are of the settings, for this once."""
        return score_rows(self._predictor(**changes), self.splits[split], self.accelerator, f"scoring {split}")

    def fit_calibration(self) -> PlattScaling:
        """The scaling that suits the images of `calibrate_on` best, the same on every process."""
        predictor, rows = self._predictor(temperature=1.0, logit_bias=0.0), self.splits[self.args.calibrate_on]
        counts = []
        for number in range(self.accelerator.process_index, len(rows), self.accelerator.num_processes):
            row = rows[number]
            counts.append(logit_counts(predictor.probability(row["image"]), row["mask"] == 1, row["valid_mask"]))
        return fit_platt_scaling(gather_object(counts))

    def _predictor(self, **changes) -> Predictor:
        network = self.network
        # The statistics of a normalisation are those of each process's own batches: all predict with the first one's.
        broadcast(list(network.buffers()))
        # Where the network is already: Accelerate may call it `cpu:0`, for which `.to` would copy all that is trained
        # away from under the average of the weights.
        device = next(network.parameters()).device
        return Predictor(network, replace(self.settings, **changes), device=device)

    def _write_checkpoint(self) -> None:
        if not self.accelerator.is_main_process or self.step == self._written:
            return
        note = {
            "step": self.step,
            "history": self.history,
            "seconds": time.monotonic() - self.started,
            "arguments": asdict(self.args),
            "processes": self.accelerator.num_processes,
        }
        state = (self.network, self.criterion, self.optimizer, self.scheduler)
        with self._writing("a checkpoint"):
            save_checkpoint(self.run / FOLDER, *state, note, self.average)
        self._written = self.step

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            last = "there is no checkpoint yet" if self._written is None else f"the last one is of step {self._written}"
            raise OSError(
                f"cannot write {what} to {self.run} after step {self.step}: {error}. When that is put right, the same "
                f"command goes on from the last checkpoint ({last})"
            ) from error
