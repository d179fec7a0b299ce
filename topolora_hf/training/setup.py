"""What a run is made of, from its settings: accelerator, data, network, objective, tiles."""

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs
from datasets import Dataset

from ..adapter_format.presets import (
    LIVING_DECODER,
    WHOLE_DECODER,
    get_preset,
    preset_network_settings,
)
from ..adapter_format.settings import AdapterSettings
from ..data.augmentation import Augmentation
from ..data.catalog import CATALOG, DatasetSpec, find_dataset
from ..data.errors import DataError
from ..data.intensity import evenly_spread
from ..data.protocols import PROTOCOLS
from ..data.tiles import TileDataset, largest_half_width
from ..fundus.colours import FovColours
from ..fundus.normaliser import fit_fundus
from ..network.encoder import count_frozen_layers
from ..network.segmenter import TopoSamForSegmentation
from ..objective.losses import TopoLoss
from ..processes import launched_on_cpus, usable_cores
from .arguments import TrainArguments
from .features import FeatureCache

_STEPS_AN_EPOCH = 100  # at least: an epoch is also the interval of checkpoints
_FUNDUS_MEASURED = 20
_MOST_ITERATIONS = 10  # of soft erosion: what is left inside a wider structure counts as its skeleton


def build_accelerator(args: TrainArguments) -> Accelerator:
    """The accelerator of a run; ValueError when its tracker is not installed, or a CPU lacks the precision."""
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        raise ValueError(
            "FSDP is not supported: it shards what is trained, which here is a few percent of the network, and what "
            "is saved and scored would have to be put together again. Each process holds the whole network (SAM "
            "ViT-H: 2.5 GB); use a settings file without fsdp_config, such as "
            "recipes/configs/accelerate/several_gpus.yaml"
        )
    accelerator = Accelerator(
        cpu=launched_on_cpus(),
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
        if args.mixed_precision == "fp16":  # Accelerate would train in float32, and not say so
            raise ValueError("mixed_precision fp16 needs a GPU: on a CPU it is auto, bf16 or no")
        if args.mixed_precision == "bf16" and _precision("auto") == "no":
            warnings.warn(
                "mixed_precision bf16 is slower than float32 on this processor (ten times, where it has no bfloat16 "
                "at all): auto and no train in float32",
                stacklevel=2,
            )
        processes_here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        torch.set_num_threads(args.num_threads or max(1, usable_cores() // processes_here))
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
    else:
        spec, _ = find_dataset(args.dataset, args.data_dir)
        data = args.load()
    splits = _require_splits(args, data)
    return spec, splits if args.train_images is None else _with_fewer_train_images(args, splits)


def _with_fewer_train_images(args: TrainArguments, splits: dict[str, Sequence[dict]]) -> dict[str, Sequence[dict]]:
    """`train_images` of the training rows: the first of one permutation, so that more images hold the fewer."""
    rows = splits["train"]
    if args.train_images > len(rows):
        raise DataError(
            f"train_images is {args.train_images}, data set {args.dataset} has {len(rows)} training images "
            f"(validation_fraction is {args.validation_fraction})"
        )
    if getattr(splits, "intensity", None) is not None:
        raise DataError(
            f"train_images is for images of 8 bits: those of {args.dataset} have more, and their scaling was fitted on "
            "all training images"
        )
    drawn = sorted(np.random.default_rng(args.seed).permutation(len(rows))[: args.train_images].tolist())
    return {**splits, "train": rows.select(drawn) if isinstance(rows, Dataset) else [rows[number] for number in drawn]}


def _require_splits(args: TrainArguments, splits: dict[str, Sequence[dict]]) -> dict[str, Sequence[dict]]:
    if "train" not in splits:
        raise DataError(f"data set {args.dataset} has no train split, but {', '.join(splits)}")
    calibrates_on_validation = args.calibrate and args.calibrate_on == "validation"
    for name, wanted in (("choose_threshold", args.choose_threshold), ("calibrate", calibrates_on_validation)):
        if wanted and not {"validation", "test"} <= splits.keys():
            raise DataError(
                f"{name} needs validation images to choose on and test images to score, data set {args.dataset} has "
                f"{', '.join(splits)}"
            )
    if "test" not in splits and "validation" not in splits:
        raise DataError(
            f"data set {args.dataset} leaves nothing to score: it has no test split, and none of its "
            f"{len(splits['train'])} training images was cut off as validation "
            f"(validation_fraction is {args.validation_fraction})"
        )
    return splits


def build_network(args: TrainArguments, spec: DatasetSpec) -> tuple[TopoSamForSegmentation, AdapterSettings]:
    """The base in the form that the preset needs, and the settings that will be saved with it.

    Raises:
        ValueError: settings that no network has.
        OSError: the base cannot be loaded.
    """
    by_default = PROTOCOLS[args.protocol].tile_size or spec.tile_size
    tile_size = by_default if args.tile_size is None else args.tile_size
    of_every_network = {
        "view": "tiles" if args.protocol == "paper" else args.view or spec.view,
        "threshold": args.threshold,
        "test_time_flips": args.test_time_flips,
        "test_time_scales": tuple(args.test_time_scales),
        "dataset": spec.name,
    }
    form = {**preset_network_settings(args.preset), "tile_size": tile_size}
    if args.detail_channels is not None:
        if form.get("detail_channels") == 0 and args.detail_channels:
            raise ValueError(f"preset {args.preset!r} has no detail branch, got detail_channels={args.detail_channels}")
        form["detail_channels"] = args.detail_channels
    if args.detail_context is not None:
        form["detail_context"] = args.detail_context
    if args.image_size is not None:
        form["image_size"] = args.image_size
    try:
        network = args.load_base(**form)
    except OSError as error:
        raise OSError(f"cannot load the base {args.base}: {error}\n--base tiny needs no download.") from error
    except RuntimeError as error:
        wanted = ", ".join(f"{name}={value}" for name, value in form.items())
        raise ValueError(
            f"the base {args.base} was saved in another form than {wanted} ({str(error).splitlines()[0]}); without "
            "detail_channels its own detail branch is taken"
        ) from error
    if hasattr(network, "peft_config"):
        raise ValueError(f"{args.base} is an adapter: a base is a SAM, or a whole network that save_pretrained wrote")
    if get_preset(args.preset).detail_branch and network.detail_branch is None and args.detail_channels is None:
        raise ValueError(
            f"the base {args.base} has no detail branch, which preset {args.preset!r} trains: detail_channels=16 gives "
            "it one, 0 goes on without"
        )
    if args.decoder_init == "scratch":
        if not get_preset(args.preset).decoder:
            raise ValueError(f"decoder_init='scratch': preset {args.preset!r} does not train the decoder")
        restart_decoder(network, args.seed)
    network.sam_dropout = args.sam_dropout
    return network, AdapterSettings.of_network(network, preset=args.preset, **of_every_network)


def restart_decoder(network: TopoSamForSegmentation, seed: int) -> None:
    """The decoder's living parts as transformers initialises them, drawn from the seed; all else stays, and so does
    the state of torch's generator."""
    decoder = network.sam.mask_decoder
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(decoder)(decoder.config).apply(network.sam._init_weights)
    for name in LIVING_DECODER:
        part = name.removeprefix("mask_decoder.")
        decoder.get_submodule(part).load_state_dict(fresh.get_submodule(part).state_dict())


def count_steps(args: TrainArguments, images: int, processes: int) -> int:
    """Optimizer steps of the run: those asked for, or as many as the epochs take, a last one begun counted whole."""
    if args.epochs is None:
        return args.max_steps
    return math.ceil(args.epochs * images / (args.batch_size * args.gradient_accumulation_steps * processes))


def measure_fundus(
    args: TrainArguments, spec: DatasetSpec, rows: Sequence[dict]
) -> tuple[float | None, FovColours | None]:
    """The diameter and the colours of the training images' fields of view, if they are fundus photographs in tiles."""
    fov = (args.fov or spec.fov) if PROTOCOLS[args.protocol].has_field_of_view else "none"
    if (args.view or spec.view) != "tiles" or fov == "none":
        return None, None
    measured = (rows[number] for number in evenly_spread(range(len(rows)), _FUNDUS_MEASURED))
    return fit_fundus(((row["image"], row["valid_mask"]) for row in measured), has_scale=spec.reader is not None)


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
        augmentation=_chosen_augmentation(args, augmentation) if args.augmentation else None,
        image_mean=settings.image_mean,
        image_std=settings.image_std,
        with_skeleton=args.target_skeleton == "hard",
    )


def _chosen_augmentation(args: TrainArguments, usual: Augmentation) -> Augmentation:
    """The data set's usual augmentation, but for what the run was told of it."""
    chosen = {}
    if args.zoom is not None:
        chosen["zoom"] = (1 / args.zoom, args.zoom)
    if args.noise is not None:
        chosen["noise"] = args.noise
    return replace(usual, **chosen)


def parameter_groups(args: TrainArguments, model: torch.nn.Module, criterion: TopoLoss) -> list[dict]:
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
    """`auto` is bf16 where it is faster: on GPUs that have it, and on CPUs with AMX or AMD's bf16 instructions.

    Intel's processors without AMX have such instructions too, and are slower with them than in float32 (measured: 73
    against 124 GFLOP/s in matrix products).
    """
    if choice != "auto":
        return choice
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    processor = torch.cpu.get_capabilities()
    is_intel = processor.get("cpu_name", "").startswith("Intel")
    is_faster = processor.get("amx_bf16") or (processor.get("avx512_bf16") and not is_intel)
    return "bf16" if is_faster else "no"
