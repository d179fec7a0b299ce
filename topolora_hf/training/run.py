"""A run from its settings to its scores."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import set_seed
from peft import PeftModel
from torch import nn

from ..adapter_format.presets import PRESETS
from ..adapter_format.settings import AdapterSettings
from ..adapters.parameters import format_parameter_table, lora_in_words, parameter_table
from ..data.catalog import DatasetSpec
from ..files import write_json
from ..hub.push import open_repository, push_adapter
from ..objective.losses import TopoLoss
from . import setup
from .arguments import TrainArguments
from .checkpoints import Checkpoint
from .classes import TaskClasses
from .loop import Trainer
from .memory import advice_on_memory
from .progress import SETTINGS, alone_in, find_progress, on_main_process, start_anew
from .results import score_and_save

_FEW_IMAGES = 50

BuildNetwork = Callable[[TrainArguments, DatasetSpec, TaskClasses], tuple[nn.Module, AdapterSettings]]


def train(
    args: TrainArguments,
    data: dict[str, Sequence[dict]] | None = None,
    build_network: BuildNetwork | None = None,
    on_step: Callable[[Trainer], None] | None = None,
    classes: TaskClasses | None = None,
    build_criterion: Callable[..., TopoLoss] = setup.build_criterion,
) -> dict:
    """Train an adapter, a base or a baseline, score it, and fill the run directory.

    A directory that holds an unfinished run of the same settings is resumed, from its last checkpoint and to the same
    bytes; one that holds it finished is left as it is.

    Args:
        args: see `TrainArguments`.
        data: splits of decoded rows in place of `load_segmentation_data(args.dataset, ...)`.
        build_network: makes what is trained, and the settings that are saved with it; None: an adapter or a base. A
            baseline is any module whose
            `forward(pixel_values)` returns something with `logits` (B, K, T, T), and that has
            `save_pretrained(directory)`: it ends in `network/`.
        on_step: called with the trainer after each optimizer step. What it raises ends the run.
        classes: what the maps of the masks in `data` are; None: what `data` says itself, or one class.
        build_criterion: makes the objective, from the arguments of `setup.build_criterion`.

    Returns:
        What metrics.json holds.

    Raises:
        DataError: the data cannot be used; the message lists every problem.
        ValueError: settings that cannot be met, or a run directory that holds a run of other settings.
        PushError: with push_to_hub, the Hub refused, or could not be reached; a trained adapter stays in its directory.
        OSError: the base cannot be loaded, or the run directory cannot be written to or is in use.
        FloatingPointError: the loss or a gradient is not finite; the message names the images of the batch.
        MemoryError: there is too little; the message names the settings that help.
        RunStopped: SIGTERM or SIGINT ended it, after a checkpoint.
    """
    started = time.monotonic()
    accelerator, run = setup.build_accelerator(args), Path(args.output_dir)
    publishes = args.push_to_hub and accelerator.is_main_process
    if publishes:
        open_repository(args.repository)  # be refused before the work, not after it
    with alone_in(run, accelerator), advice_on_memory(args):
        progress = on_main_process(accelerator, lambda: find_progress(run, args, accelerator.num_processes))
        metrics = progress.metrics
        if metrics is None:
            checkpoint = progress.checkpoint
            trainer = _build_trainer(
                args, accelerator, data, build_network, build_criterion, checkpoint, started, on_step, classes
            )
            trainer.run_steps()
            metrics = score_and_save(trainer)
            # The wrapper that averages gradients has to go before the process group that it uses: freed after it, it
            # can wait for ever for a thread of the group (seen with torch 2.13 on CPUs).
            del trainer
            accelerator.free_memory()
            accelerator.end_training()
        if publishes:
            print(f"pushed to {push_adapter(run, args.repository)}")
    return metrics


def _build_trainer(
    args: TrainArguments,
    accelerator: Accelerator,
    data: dict[str, Sequence[dict]] | None,
    build_network: BuildNetwork | None,
    build_criterion: Callable[..., TopoLoss],
    checkpoint: Checkpoint | None,
    started: float,
    on_step: Callable[[Trainer], None] | None,
    classes: TaskClasses | None,
) -> Trainer:
    set_seed(args.seed)
    with accelerator.main_process_first():  # it unpacks or downloads, the others find it done
        spec, splits = setup.load_splits(args, data)
    rows, run, classes = splits["train"], Path(args.output_dir), TaskClasses.of(splits, classes)
    if args.calibrate != "none":
        classes.require_structure(splits[args.calibrate], args.calibrate)
    build_network = build_network or partial(setup.build_network, rows=rows)
    model, settings = build_network(args, spec, classes)
    network = model.get_base_model() if isinstance(model, PeftModel) else model
    if args.score_untrained and network is model:
        raise ValueError("score_untrained scores the base of an adapter, and this run trains none")
    settings.intensity, settings.bands = getattr(splits, "intensity", None), getattr(splits, "bands", None)
    settings.fov_diameter, settings.fov_colours = setup.measure_fundus(args, spec, rows)
    settings.foreground_range = setup.measure_foreground(rows)
    if args.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    criterion = build_criterion(args, rows, settings, classes.thin)
    if hasattr(network, "criterion"):  # a baseline has none
        network.criterion = criterion
    if accelerator.is_main_process:
        if args.overwrite:
            start_anew(run)
        write_json(run / SETTINGS, asdict(args))
        _announce(accelerator, args, splits, settings, criterion, model)
    accelerator.init_trackers(run.resolve().name)
    tiles = setup.build_tiles(args, rows, settings, spec.augmentation, accelerator.num_processes)
    trainer = Trainer(args, accelerator, model, criterion, tiles, splits, settings, spec, started, on_step)
    if checkpoint is not None:
        trainer.resume(checkpoint)
    return trainer


def _announce(accelerator, args, splits, settings, criterion, model) -> None:
    computing = f"{accelerator.mixed_precision.replace('no', 'float32')} on {accelerator.device.type}"
    print(f"run       {args.output_dir}")
    print(f"data      {args.dataset}: {split_in_words(splits)}")
    print(f"          view {settings.view}, tiles of {settings.tile_size} pixels")
    if settings.num_labels > 1:
        print(f"classes   {', '.join(settings.labels)}: {'exclusive' if settings.exclusive else 'may overlap'}")
    if settings.base:
        print(f"base      {args.base}, encoder at {settings.image_size} pixels, {computing}")
        print(f"preset    {args.preset}: {PRESETS[args.preset].description}")
    if isinstance(model, PeftModel) and PRESETS[args.preset].rank:
        print(f"LoRA      {lora_in_words(model, args.lora)}")
    terms = "cross-entropy" if settings.exclusive else "BCE"
    thin = TaskClasses(settings.labels, settings.exclusive, criterion.thin).thin_labels
    terms += " + Dice"
    if thin != ():
        of_some = f" of {', '.join(thin)}" if thin else ""
        terms += f" + {args.cldice_weight} clDice{of_some} ({args.cldice_schedule})"
    print(f"objective {terms}, {criterion.iterations} erosions")
    print(format_parameter_table(parameter_table(model)), flush=True)


def split_in_words(splits: dict[str, Sequence[dict]]) -> str:
    """Say how many images go where; of few images, also which flag decides it; and if one image is all that is scored.

    >>> split_in_words({"train": range(6), "validation": range(1), "test": range(1)})
    '8 images: 6 to train, 1 validation, 1 test (--validation_fraction). The score will be of one image'
    """
    counts = [f"{len(rows)} {'to train' if split == 'train' else split}" for split, rows in splits.items()]
    total = sum(map(len, splits.values()))
    words = f"{total} images: {', '.join(counts)}{' (--validation_fraction)' if total < _FEW_IMAGES else ''}"
    return words + (". The score will be of one image" if len(splits[setup.scored_split(splits)]) == 1 else "")
