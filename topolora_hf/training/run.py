"""A run from its settings to its scores."""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn

from ..adapter_format.presets import get_preset
from ..adapter_format.settings import AdapterSettings
from ..adapters.creation import create_adapter, unfreeze
from ..adapters.parameters import format_parameter_table, parameter_table
from ..data.catalog import DatasetSpec
from ..files import write_json
from ..hub.push import open_repository, push_adapter
from ..metrics.report import score_set
from ..objective.losses import TopoLoss
from .arguments import TrainArguments
from .checkpoints import Checkpoint
from .loop import Trainer
from .memory import advice_on_memory, fit_batch_size
from .progress import (
    SETTINGS,
    alone_in,
    find_progress,
    on_main_process,
)
from .results import score_and_save
from .setup import (
    build_accelerator,
    build_criterion,
    build_network,
    build_tiles,
    compile_regions,
    load_splits,
    measure_fundus,
)


def train(args: TrainArguments, data: dict[str, Sequence[dict]] | None = None) -> dict:
    """Trains an adapter, a whole base or a specialist, scores it, and fills the run directory.

    A directory that holds an unfinished run of the same settings is gone on with, from its last checkpoint and to the
    same bytes; one that holds it finished is left as it is.

    Args:
        args: see `TrainArguments`.
        data: splits of decoded rows in place of `load_segmentation_data(args.dataset, ...)`.

    Returns:
        What metrics.json holds.

    Raises:
        DataError: the data cannot be used; the message lists every problem.
        ValueError: settings that cannot be met, or a run directory that holds a run of other settings.
        PushError: with push_to_hub, the Hub refused, or could not be reached; a trained adapter stays in its directory.
        OSError: the base cannot be loaded, the run directory cannot be written to or is in use, or there is no
            checkpoint to resume from.
        FloatingPointError: the loss or a gradient is not finite; the message names the images of the batch.
        MemoryError: there is too little; the message names the settings that help.
        RunStopped: SIGTERM or SIGINT ended it, after a checkpoint.
    """
    started = time.monotonic()
    accelerator = build_accelerator(args)
    run = Path(args.output_dir)
    if args.push_to_hub and accelerator.is_main_process:
        open_repository(args.repository, args.private)  # before the work, not after it, is the time to be refused
    with alone_in(run, accelerator), advice_on_memory(args):
        progress = on_main_process(accelerator, lambda: find_progress(run, args, accelerator.num_processes))
        metrics = progress.metrics
        if metrics is None:
            metrics = _train_and_score(args, data, accelerator, progress.checkpoint, started)
        if args.push_to_hub and accelerator.is_main_process:
            print(f"pushed to {push_adapter(run, args.repository, args.private)}")
    return metrics


def _train_and_score(
    args: TrainArguments,
    data: dict[str, Sequence[dict]] | None,
    accelerator: Accelerator,
    checkpoint: Checkpoint | None,
    started: float,
) -> dict:
    set_seed(args.seed)
    run = Path(args.output_dir)
    with accelerator.main_process_first():  # it unpacks or downloads, the others find it done
        spec, splits = load_splits(args, data)
    model, settings = _build_model(args, spec, splits)
    criterion = build_criterion(args, splits["train"], settings).to(next(model.parameters()).dtype)
    if accelerator.is_main_process:
        write_json(run / SETTINGS, asdict(args))
        _announce(accelerator, args, splits, settings, criterion, model)
    if args.auto_batch_size:
        args = _with_batches_that_fit(args, accelerator, checkpoint, model, criterion, settings.tile_size)
    if args.log_with:
        given = {name: value for name, value in asdict(args).items() if value is not None}
        plain = {name: str(value) if isinstance(value, list) else value for name, value in given.items()}
        accelerator.init_trackers("topolora_hf", config=plain)  # TensorBoard takes no lists

    tiles = build_tiles(args, splits["train"], settings, spec.augmentation, accelerator.num_processes)
    trainer = Trainer(args, accelerator, run, model, criterion, tiles, splits, settings, started)
    scored_split = "test" if "test" in splits else "validation"
    before = score_set(trainer.score(scored_split).rows) if args.score_untrained else None
    if checkpoint is not None:
        trainer.resume(checkpoint)
    try:
        trainer.run_steps()
    finally:
        trainer.close()
    with trainer.averaged():
        metrics = score_and_save(trainer, scored_split, before)
    # The wrapper that averages gradients has to go before the process group that it uses: freed after it, it can wait
    # for ever for a thread of the group (seen with torch 2.13 on CPUs).
    del trainer
    accelerator.free_memory()
    accelerator.end_training()
    return metrics


def _build_model(args: TrainArguments, spec: DatasetSpec, splits) -> tuple[nn.Module, AdapterSettings]:
    """The network with what is trained of it, in the precision of its weights; and the settings saved with it."""
    network, settings = build_network(args, spec)
    settings.intensity = getattr(splits, "intensity", None)
    settings.disc_diameter, settings.disc_colours = measure_fundus(args, spec, splits["train"])
    if get_preset(args.preset).whole:
        model = unfreeze(network)
    else:
        model = create_adapter(network, args.preset, rank=args.rank, lora_layers=args.lora_layers)
    if args.gradient_checkpointing:
        network.gradient_checkpointing_enable()
    if args.compile:
        compile_regions(network)
    return model.double() if args.float64 else model, settings


def _with_batches_that_fit(
    args: TrainArguments,
    accelerator: Accelerator,
    checkpoint: Checkpoint | None,
    model: nn.Module,
    criterion: TopoLoss,
    tile_size: int,
) -> TrainArguments:
    """A run that goes on keeps the batches that it found, where it still has as many processes: to the same bytes."""
    if checkpoint is not None and checkpoint.note["processes"] == accelerator.num_processes:
        found = checkpoint.note["arguments"]
        batches = {name: found[name] for name in ("batch_size", "gradient_accumulation_steps")}
        args = replace(args, **batches)
    else:
        args = fit_batch_size(args, accelerator, model, criterion, tile_size)
    accelerator.gradient_accumulation_steps = args.gradient_accumulation_steps
    return args


def _announce(accelerator, args, splits, settings, criterion, model) -> None:
    counts = ", ".join(f"{len(rows)} {split}" for split, rows in splits.items())
    print(f"data      {args.dataset}: {counts} images, view {settings.view}, tiles of {settings.tile_size} pixels")
    in_full = "float64" if args.float64 else "float32"
    precision = in_full if accelerator.mixed_precision == "no" else accelerator.mixed_precision
    print(f"base      {args.base}, encoder at {settings.image_size} pixels, {precision} precision")
    print(
        f"objective BCE + Dice + {args.cldice_weight} clDice ({args.cldice_schedule}), {criterion.iterations} erosions"
    )
    print(format_parameter_table(parameter_table(model)))
