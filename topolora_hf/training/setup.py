"""What a run is made of, from its settings: accelerator, data, network, objective, tiles."""

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs
from peft import PeftModel

from ..adapters import WHOLE_DECODER, AdapterSettings, get_preset, preset_network_settings, public_base_name
from ..data import (
    CATALOG,
    PAPER_SIZE,
    Augmentation,
    DataError,
    DatasetSpec,
    TileDataset,
    find_dataset,
    largest_half_width,
)
from ..network import TopoSamForSegmentation
from ..network.encoder import count_frozen_layers
from ..objective import TopoLoss
from .arguments import TrainArguments
from .features import FeatureCache

_STEPS_AN_EPOCH = 100  # at least: an epoch is also the interval of checkpoints
_MOST_ITERATIONS = 10  # of soft erosion: what is left inside a wider structure counts as its skeleton


def build_accelerator(args: TrainArguments) -> Accelerator:
    """The accelerator of a run; ValueError when its tracker is not installed."""
    accelerator = Accelerator(
        mixed_precision=_precision(args.mixed_precision),
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        log_with=args.log_with,
        project_dir=args.output_dir,
        step_scheduler_with_optimizer=False,
        # The order of an epoch is drawn from the seed and its number, so that a resumed run goes on with the right one.
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=args.seed),
        # A whole decoder has an IoU head, which no loss reaches: several processes must not wait for its gradients.
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=get_preset(args.preset).decoder == WHOLE_DECODER)
        ],
    )
    if args.log_with and not accelerator.log_with:
        raise ValueError(f"log_with={args.log_with}: that tracker is not installed")
    if accelerator.device.type == "cpu":
        processes_here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        torch.set_num_threads(args.num_threads or max(1, len(os.sched_getaffinity(0)) // processes_here))
    return accelerator


def load_splits(
    args: TrainArguments, data: dict[str, Sequence[dict]] | None
) -> tuple[DatasetSpec, dict[str, Sequence[dict]]]:
    """What is known of the data set, and its splits: rows to train on, and rows to score.

    Raises:
        DataError: the data cannot be used, or there is nothing to train on or nothing to score.
    """
    if data is not None:
        spec = CATALOG.get(args.dataset) or replace(CATALOG["folder"], name=Path(args.dataset).name)
        return spec, _require_splits(args, data)
    spec, _ = find_dataset(args.dataset, args.data_dir)
    return spec, _require_splits(args, args.load())


def _require_splits(args: TrainArguments, splits: dict[str, Sequence[dict]]) -> dict[str, Sequence[dict]]:
    if "train" not in splits:
        raise DataError(f"data set {args.dataset} has no train split, but {', '.join(splits)}")
    if args.choose_threshold and "validation" not in splits:
        raise DataError(f"choose_threshold needs validation images, data set {args.dataset} has {', '.join(splits)}")
    if "test" not in splits and "validation" not in splits:
        raise DataError(
            f"data set {args.dataset} leaves nothing to score: it has no test split, and none of its "
            f"{len(splits['train'])} training images was cut off as validation "
            f"(validation_fraction is {args.validation_fraction})"
        )
    return splits


def build_network(args: TrainArguments, spec: DatasetSpec) -> tuple[TopoSamForSegmentation, AdapterSettings]:
    """The base in the form that the preset needs, and the settings that its adapter will carry.

    Raises:
        ValueError: settings that no network has.
        OSError: the base cannot be loaded.
    """
    form = preset_network_settings(args.preset)
    if args.detail_channels is not None:
        if form.get("detail_channels") == 0 and args.detail_channels:
            raise ValueError(f"preset {args.preset!r} has no detail branch, got detail_channels={args.detail_channels}")
        form["detail_channels"] = args.detail_channels
    by_default = PAPER_SIZE if args.protocol == "paper" else spec.tile_size
    form["tile_size"] = by_default if args.tile_size is None else args.tile_size
    if args.image_size is not None:
        form["image_size"] = args.image_size
    try:
        network = TopoSamForSegmentation.from_pretrained(args.base, **form)
    except OSError as error:
        raise OSError(f"cannot load the base {args.base}: {error}\n--base tiny needs no download.") from error
    if hasattr(network, "peft_config"):
        raise ValueError(f"{args.base} is an adapter: a base is a SAM, or a whole network that save_pretrained wrote")
    settings = AdapterSettings(
        base=public_base_name(network.name_or_path),
        preset=args.preset,
        image_size=network.config.image_size,
        tile_size=network.config.tile_size,
        detail_channels=network.config.detail_channels,
        spatial_adapter_form=network.config.spatial_adapter_form,
        use_sam=network.config.use_sam,
        view="tiles" if args.protocol == "paper" else spec.view,
        threshold=args.threshold,
        dataset=spec.name,
    )
    return network, settings


def build_criterion(args: TrainArguments, rows: Sequence[dict], settings: AdapterSettings) -> TopoLoss:
    """The objective, with as many erosions as the widest structure of the training masks needs."""
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


def build_feature_cache(
    args: TrainArguments, network: TopoSamForSegmentation, tiles: TileDataset, path: Path
) -> FeatureCache | None:
    """A cache of what the frozen layers make of each image, where that was asked for.

    Raises:
        ValueError: when a tile never comes twice, or every layer is trained.
    """
    if not args.cache_features:
        return None
    if tiles.view != "whole" or args.augmentation:
        raise ValueError(
            f"cache_features needs tiles that come again: whole images (the view is {tiles.view!r}) and augmentation "
            f"False (it is {args.augmentation})"
        )
    if not count_frozen_layers(network.sam.vision_encoder):
        raise ValueError("cache_features needs frozen layers: give lora_layers, or a preset without LoRA")
    return FeatureCache(network.encode_frozen, path, len(tiles.rows))


def build_tiles(
    args: TrainArguments,
    rows: Sequence[dict],
    settings: AdapterSettings,
    augmentation: Augmentation,
    processes: int,
) -> TileDataset:
    """Tiles enough for an epoch of 100 steps, so that small data sets do not spend their time between epochs."""
    tiles_an_epoch = _STEPS_AN_EPOCH * args.batch_size * args.gradient_accumulation_steps * processes
    return TileDataset(
        rows,
        settings.tile_size,
        view=settings.view,
        tiles_per_image=math.ceil(tiles_an_epoch / len(rows)),
        seed=args.seed,
        augmentation=augmentation if args.augmentation else None,
        image_mean=settings.image_mean,
        image_std=settings.image_std,
        with_skeleton=args.target_skeleton == "hard",
    )


def parameter_groups(args: TrainArguments, model: PeftModel, criterion: TopoLoss) -> list[dict]:
    """AdamW's groups: the detail branch has its own rate; norms, biases and the objective's weights never decay."""
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in (*model.named_parameters(), *criterion.named_parameters()):
        if parameter.requires_grad:
            rate = args.detail_learning_rate if "detail_branch" in name else args.learning_rate
            decay = args.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]


def compile_regions(network: TopoSamForSegmentation) -> None:
    """`torch.compile` where many small steps follow one another: the detail branch and the decoder's transformer."""
    for region in (network.detail_branch, network.sam.mask_decoder.transformer):
        if region is not None:
            region.compile()


def _precision(choice: str) -> str:
    """`auto` is bf16 where it is faster: on GPUs that have it, and on CPUs with bf16 instructions."""
    if choice != "auto":
        return choice
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "no"
