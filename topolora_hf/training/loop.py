"""The training loop: one `accelerate.Accelerator`, steps that survive what happens to them."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

import torch
from accelerate import Accelerator, skip_first_batches
from accelerate.utils import broadcast, gather_object
from torch import nn
from torch.utils.data import DataLoader, RandomSampler
from tqdm import tqdm
from transformers import get_cosine_schedule_with_warmup

from ..adapter_format.settings import AdapterSettings
from ..data.catalog import DatasetSpec
from ..data.protocols import PROTOCOLS
from ..data.tiles import TileDataset
from ..files import write_history
from ..inference.predictor import Predictor
from ..metrics.platt_scaling import PlattScaling, fit_platt_scaling, logit_counts
from ..objective.losses import TopoLoss
from .arguments import TrainArguments
from .checkpoints import FOLDER, Checkpoint, save_checkpoint
from .interruption import RunStopped, StopRequest, obey_only_the_run
from .numerics import StepCheck
from .progress import ids_of, require_same_images, tiles_a_step
from .scoring import SplitScores, score_rows
from .setup import count_steps, count_workers, parameter_groups

_MAX_GRADIENT_NORM = 1.0
_FIRST_CHECKPOINT_SECONDS, _CHECKPOINT_SECONDS = 30, 300
_TIMED_STEPS = 5


class Trainer:
    """The state of a run: model, optimizer, schedule, history; and the steps that change it.

    Which tiles a step sees depends on its number, the seed and how many tiles a step has, not on how these are shared
    out over batches and processes.

    Attributes:
        step: steps done.
        losses: total, BCE, Dice and clDice of the last step, a mean over its batches.
    """

    def __init__(
        self,
        args: TrainArguments,
        accelerator: Accelerator,
        model: nn.Module,
        criterion: TopoLoss,
        tiles: TileDataset,
        splits: dict[str, Sequence[dict]],
        settings: AdapterSettings,
        spec: DatasetSpec,
        started: float,
        on_step: Callable[["Trainer"], None] | None = None,
    ):
        self.args, self.accelerator, self.run, self.settings = args, accelerator, Path(args.output_dir), settings
        self.tiles, self.splits, self.spec, self.on_step = tiles, splits, spec, on_step
        self.step, self.history, self.images = 0, [], ids_of(splits)
        self.started = started  # by `time.monotonic`; of a resumed run, as if it had never been stopped
        self.max_steps = count_steps(args, len(tiles.rows), accelerator.num_processes)
        self.steps_an_epoch = len(tiles) // tiles_a_step(asdict(args), accelerator.num_processes)
        self._written = None  # the step of the last checkpoint
        self._check, self.losses = StepCheck(accelerator), None
        optimizer = torch.optim.AdamW(parameter_groups(args, model, criterion), fused=True)
        warmup = round(PROTOCOLS[args.protocol].warmup_fraction * self.max_steps)
        scheduler = get_cosine_schedule_with_warmup(optimizer, warmup, self.max_steps)
        self.model, self.optimizer, self.loader, self.scheduler = accelerator.prepare(
            model, optimizer, self._build_loader(), scheduler
        )
        self.criterion = criterion.to(accelerator.device)

    def _build_loader(self) -> DataLoader:
        # An epoch is whole steps: what is left of its last tiles would make a smaller one.
        whole = self.steps_an_epoch * tiles_a_step(asdict(self.args), self.accelerator.num_processes)
        generator = torch.Generator().manual_seed(self.args.seed)
        workers = count_workers(self.args, device := self.accelerator.device.type)
        return DataLoader(
            self.tiles,
            batch_size=self.args.batch_size,
            sampler=RandomSampler(self.tiles, num_samples=whole, generator=generator),
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device == "cuda",
            worker_init_fn=obey_only_the_run,
            generator=generator,
        )

    @property
    def network(self) -> nn.Module:
        """The model without what averages its gradients; `network(pixel_values, labels=...).loss` is trained."""
        return self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=True)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint; a ValueError if it is of other images."""
        require_same_images(self.run, checkpoint.note.get("images", self.images), self.images)
        checkpoint.restore(self.network, self.criterion, self.optimizer, self.scheduler)
        self.step, self.history = checkpoint.note["step"], checkpoint.note["history"]
        self.started -= checkpoint.note["seconds"]
        self._written = self.step

    def run_steps(self) -> None:
        """Train until `max_steps`, with validations, and checkpoints by time.

        Raises:
            RunStopped: a signal asked for it; a checkpoint was written.
            ChildProcessError: a process that loads data was killed.
        """
        hidden = not self.accelerator.is_main_process
        bar = tqdm(initial=self.step, total=self.max_steps, desc="training", disable=hidden)
        try:
            with bar, StopRequest(self.accelerator) as request:
                self._run_steps(bar, request)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            advice = "The same command resumes from the last checkpoint; fewer num_workers need less memory"
            said = f"a process that loads data was killed, perhaps for its memory ({error}). {advice}"
            raise ChildProcessError(said) from error

    def _run_steps(self, bar: tqdm, request: StopRequest) -> None:
        first, timed = self.step, None
        due = time.monotonic() + _FIRST_CHECKPOINT_SECONDS
        while self.step < self.max_steps:
            for batches in self._rest_of_epoch():
                self._step_batches(batches)
                bar.update()
                self._after_step(bar)
                if self.on_step is not None:
                    self.on_step(self)
                now = time.monotonic()
                if self.step == first + 1:  # the first is slower than the others
                    timed = now
                if self.step == first + 1 + _TIMED_STEPS and self.accelerator.is_main_process:
                    bar.write(_estimate(self.max_steps - self.step, (now - timed) / _TIMED_STEPS))
                last = self.step == self.max_steps
                stopping = request.was_made(self.step, last)
                if stopping or last or now > due:
                    self.write_checkpoint()
                    due = time.monotonic() + _CHECKPOINT_SECONDS
                if stopping:
                    self.accelerator.wait_for_everyone()  # who ends first has the others ended by their launcher
                    where = f"after step {self.step} of {self.max_steps}, with a checkpoint"
                    raise RunStopped(f"stopped {where}: the same command resumes from there", request.number)
                if last:
                    return

    def _rest_of_epoch(self) -> Iterator[list[dict]]:
        """For each step that is left of the next step's epoch, its batches."""
        epoch, done = divmod(self.step, self.steps_an_epoch)
        self.tiles.set_epoch(epoch)
        self.loader.set_epoch(epoch)
        self.model.train()
        count = self.args.gradient_accumulation_steps
        batches = iter(skip_first_batches(self.loader, done * count) if done else self.loader)
        return iter(lambda: list(islice(batches, count)), [])

    def _step_batches(self, batches: list[dict]) -> None:
        """The batches of a step forward and backward, and the step."""
        self.criterion.progress = self.step / self.max_steps
        count, losses = self._count_centrelines(batches), []
        for batch in batches:
            with self.accelerator.accumulate(self.model):
                pixel_values = batch["pixel_values"].contiguous(memory_format=torch.channels_last)
                logits = self.model(pixel_values=pixel_values).logits
                of_batch = self.criterion(logits, *_truth(batch), count)
                losses.append(torch.stack(of_batch).detach())
                self.accelerator.backward(of_batch.total)
        # The objective's own weights lie outside the wrapper that averages the network's over the processes.
        for parameter in self.criterion.parameters():
            parameter.grad = self.accelerator.reduce(parameter.grad, reduction="mean")
        self._take_step(torch.stack(losses), [batch["id"] for batch in batches])
        self.step += 1

    def _count_centrelines(self, batches: list[dict]) -> torch.Tensor | None:
        """The mean a batch, over all batches of the step; None where it is a single one."""
        if len(batches) * self.accelerator.num_processes == 1:
            return None
        counts = torch.stack([self.criterion.count_centrelines(*_truth(batch)) for batch in batches])
        return self.accelerator.reduce(counts.mean(), reduction="mean")

    def _take_step(self, losses: torch.Tensor, ids: list[list[str]]) -> None:
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), _MAX_GRADIENT_NORM)
        norm = torch.stack([norm, *(parameter.grad.norm() for parameter in self.criterion.parameters())]).norm()
        if self.optimizer.scaler is not None:  # it leaves out a step whose gradients overflow, and scales less
            norm = norm.new_zeros(())
        self._check.add(self.step, losses[:, 0], norm, ids)
        self.optimizer.step()
        self.losses = losses.nanmean(0)  # a batch without any target has no clDice
        self.scheduler.step()
        self.optimizer.zero_grad()

    def _after_step(self, bar: tqdm) -> None:
        last = self.step == self.max_steps
        logs = self.step % self.args.log_every == 0 or last
        validates = "validation" in self.splits and (self.step % self.args.evaluate_every == 0 or last)
        if logs or validates:
            self._check.finish()
        if logs:
            values = self.accelerator.gather(self.losses[None]).mean(0).tolist()
            row = dict(zip(("loss", "bce", "dice_loss", "cldice_loss"), values, strict=True))
            bar.set_postfix(loss=f"{row['loss']:.3f}")
            self._log({**row, "learning_rate": self.scheduler.get_last_lr()[0]})
        if validates:
            scores = self.score("validation", test_time_flips=False, test_time_scales=(1.0,)).means()
            self._log({f"val_{key}": value for key, value in scores.items()})
            if self.accelerator.is_main_process:
                bar.write(f"step {self.step}: validation dice {scores['dice']:.4f}, clDice {scores['cldice']:.4f}")
            self.model.train()

    def _log(self, row: dict) -> None:
        epoch = max(0, self.step - 1) // self.steps_an_epoch
        self.history.append({"step": self.step, "epoch": epoch, **row})
        self.accelerator.log(row, step=self.step)
        if self.accelerator.is_main_process:
            with self._writing("history.csv"):
                write_history(self.run / "history.csv", self.history)

    def score(self, split: str, most: int | None = None, **changes) -> SplitScores:
        """Score a split, or its first `most` images; `changes` are of the settings, for this once."""
        rows = self.splits[split]
        if most is not None and most < len(rows):
            rows = [rows[number] for number in range(most)]
        return score_rows(self._predictor(**changes), rows, self.accelerator, f"scoring {split}")

    def fit_calibration(self, split: str) -> list[PlattScaling]:
        """Fit the scaling of each class that suits the images of a split best, the same on every process."""
        predictor, rows = self._predictor(temperature=1.0, logit_bias=0.0), self.splits[split]
        counts = []
        for number in range(self.accelerator.process_index, len(rows), self.accelerator.num_processes):
            row = rows[number]
            prediction = predictor(row["image"], row["id"])
            inside = row["valid_mask"] & prediction.inside  # what is never foreground says nothing of the network
            maps = zip(prediction.probabilities, row["mask"], strict=True)
            counts.append([logit_counts(probability, mask == 1, inside) for probability, mask in maps])
        return [fit_platt_scaling(of_class) for of_class in zip(*gather_object(counts), strict=True)]

    def _predictor(self, **changes) -> Predictor:
        # The statistics of a normalisation are those of each process's own batches: all predict with the first one's.
        broadcast(list(self.network.buffers()))
        # Where the network is already: Accelerate may call it `cpu:0`, for which `.to` would copy what is trained.
        device = next(self.network.parameters()).device
        return Predictor(self.network, replace(self.settings, **changes), device=device)

    def write_checkpoint(self) -> None:
        """Write a checkpoint of the last step, unless there is one; on the main process. All processes call it."""
        self._check.finish()
        if not self.accelerator.is_main_process or self.step == self._written:
            return
        note = {
            "step": self.step,
            "history": self.history,
            "seconds": time.monotonic() - self.started,
            "arguments": asdict(self.args),
            "processes": self.accelerator.num_processes,
            "images": self.images,
        }
        with self._writing("a checkpoint"):
            save_checkpoint(self.run / FOLDER, self.network, self.criterion, self.optimizer, self.scheduler, note)
        self._written = self.step

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            last = "there is no checkpoint yet" if self._written is None else f"the last one is of step {self._written}"
            advice = f"When that is put right, the same command resumes from the last checkpoint ({last})"
            raise OSError(f"cannot write {what} to {self.run} after step {self.step}: {error}. {advice}") from error


def _truth(batch: dict) -> tuple[torch.Tensor | None, ...]:
    return batch["labels"], batch["valid_mask"], batch.get("skeleton")


def _estimate(steps: int, seconds: float) -> str:
    """How long so many steps take, in words.

    >>> _estimate(1000, 0.5)
    '0.50 s a step: about 8 minutes to go, then scoring'
    """
    minutes = round(steps * seconds / 60)
    left = f"about {minutes} minute{'' if minutes == 1 else 's'}" if minutes else "less than a minute"
    return f"{seconds:.2f} s a step: {left} to go, then scoring"
