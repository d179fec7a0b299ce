"""What a run is made of, from its settings: accelerator, data, network, objective, tiles."""

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.tracking import get_available_trackers
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs, GradientAccumulationPlugin
from torch import nn
from torch.utils.data import default_collate

from ..adapter_format.families import FAMILIES
from ..adapter_format.presets import STARTS_FROM_DATA, get_preset, preset_network_settings
from ..adapter_format.settings import AdapterSettings
from ..adapters.creation import create_adapter, unfreeze
from ..data.augmentation import Augmentation
from ..data.catalog import CATALOG, DatasetSpec, find_dataset
from ..data.errors import DataError
from ..data.intensity import evenly_spread
from ..data.protocols import PROTOCOLS
from ..data.tiles import TileDataset, largest_half_width
from ..fundus.colours import FovColours
from ..fundus.normaliser import fit_fundus
from ..network.segmenter import TopoSamForSegmentation
from ..objective.losses import TopoLoss
from ..processes import best_device, fast_dtype, launched_on_cpus, usable_cores
from .arguments import TrainArguments
from .classes import TaskClasses

_STEPS_AN_EPOCH = 100  # at least: small data sets do not spend their time between epochs
_FUNDUS_MEASURED = 20
_START_TILES = 16  # that a variant of LoRA starts from
_MOST_ITERATIONS = 10  # of soft erosion: what is left inside a wider structure counts as its skeleton


def build_accelerator(args: TrainArguments) -> Accelerator:
    """Build the accelerator of a run.

    Raises:
        ValueError: the hardware lacks the precision, FSDP is asked for, or a tracker is not installed.
    """
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        raise ValueError(
            "FSDP is not supported: it shards what is trained, here a few percent of the network. Each process holds "
            "the full network (SAM ViT-H: 2.5 GB): use recipes/configs/accelerate/several_gpus.yaml"
        )
    device = PartialState(cpu=launched_on_cpus()).device.type
    trackers = [str(tracker) for tracker in get_available_trackers()]
    if args.log_with not in (None, *trackers):
        found = ", ".join(trackers) or "none"
        raise ValueError(f"log_with {args.log_with}: no such tracker of Accelerate is installed; installed: {found}")
    if device == "cpu":
        _check_cpu_precision(args.mixed_precision)
        torch.set_num_threads(args.num_threads or _cores_of_a_process())
    if device == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32: float32 products with a shorter mantissa, far faster
    return Accelerator(
        cpu=launched_on_cpus(),
        mixed_precision=_precision(args.mixed_precision, device),
        # All batches of a step are drawn before it is taken: the loader's end is no sign that a step is complete.
        gradient_accumulation_plugin=GradientAccumulationPlugin(
            num_steps=args.gradient_accumulation_steps, sync_with_dataloader=False
        ),
        step_scheduler_with_optimizer=False,
        # The order of an epoch is drawn from the seed and its number, so that a resumed run has the right one.
        dataloader_config=DataLoaderConfiguration(
            use_seedable_sampler=True, data_seed=args.seed, non_blocking=device == "cuda"
        ),
        # A whole decoder has an IoU head, which no loss reaches: several processes must not wait for its gradients.
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=get_preset(args.preset).decoder == "whole")
        ],
        log_with=args.log_with,
        project_dir=args.output_dir,
    )


def _check_cpu_precision(choice: str) -> None:
    if choice == "fp16":  # Accelerate would train in float32, and not say so
        raise ValueError("mixed_precision fp16 needs a GPU: on a CPU it is auto, bf16 or no")
    if choice == "bf16" and _precision("auto", "cpu") == "no":
        warnings.warn(
            "mixed_precision bf16 is slower than float32 on this processor (ten times, if it has no bfloat16 at all): "
            "auto and no train in float32",
            stacklevel=3,
        )


def _precision(choice: str, device: str | None = None) -> str:
    """`auto` is bf16 where it is faster: on GPUs that compute in it, and on CPUs with AMX or AMD's bf16 instructions.

    Older GPUs, which emulate it, get fp16; Apple's and others' float32. Intel's processors without AMX are slower in
    bf16 than in float32 (measured: 73 against 124 GFLOP/s in matrix products).
    """
    if choice != "auto":
        return choice
    device = device or ("cuda" if torch.cuda.is_available() else best_device().type)
    if device == "cuda":
        return "bf16" if fast_dtype(torch.device(device)) == torch.bfloat16 else "fp16"
    if device != "cpu":
        return "no"
    processor = torch.cpu.get_capabilities()
    is_intel = processor.get("cpu_name", "").startswith("Intel")
    is_faster = processor.get("amx_bf16") or (processor.get("avx512_bf16") and not is_intel)
    return "bf16" if is_faster else "no"


def count_workers(args: TrainArguments, device: str) -> int:
    """Count the processes that load data: as asked, or 2; on a GPU, which is faster than two, the cores up to 8."""
    if args.num_workers is not None:
        return args.num_workers
    return min(max(_cores_of_a_process(), 2), 8) if device == "cuda" else 2


def _cores_of_a_process() -> int:
    return max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def load_splits(
    args: TrainArguments, data: dict[str, Sequence[dict]] | None
) -> tuple[DatasetSpec, dict[str, Sequence[dict]]]:
    """Load what is known of the data set, and its splits; a DataError says what is missing, or cannot be used."""
    if data is not None:
        spec = CATALOG.get(args.dataset) or replace(CATALOG["folder"], name=Path(args.dataset).name)
    else:
        spec, _ = find_dataset(args.dataset, args.data_dir)
        data = args.load()
    if "train" not in data:
        raise DataError(f"data set {args.dataset} has no train split, but {', '.join(data)}")
    if args.calibrate == "validation" and not {"validation", "test"} <= data.keys():
        needed = "calibrate needs validation images to fit on and test images to score"
        raise DataError(f"{needed}, data set {args.dataset} has {', '.join(data)}")
    if "test" not in data and "validation" not in data:
        raise DataError(
            f"data set {args.dataset} leaves nothing to score: it has no test split, and none of {len(data['train'])} "
            f"training images was cut off as validation (validation_fraction is {args.validation_fraction})"
        )
    return spec, data


def scored_split(splits: dict[str, Sequence[dict]]) -> str:
    """Name the split that is scored at the end."""
    return "test" if "test" in splits else "validation"


def task_settings(args: TrainArguments, spec: DatasetSpec, classes: TaskClasses = TaskClasses()) -> dict:  # noqa: B008 (frozen)
    """Collect the fields of `AdapterSettings` that the task decides, whatever the network."""
    protocol = PROTOCOLS[args.protocol]
    task = {"test_time_flips": args.test_time_flips, "test_time_scales": tuple(args.test_time_scales)}
    task |= {"labels": classes.labels, "exclusive": classes.exclusive}
    tile_size = args.tile_size or protocol.tile_size or spec.tile_size
    return {"tile_size": tile_size, "view": args.view or protocol.view or spec.view, "dataset": spec.name, **task}


def build_network(
    args: TrainArguments,
    spec: DatasetSpec,
    classes: TaskClasses = TaskClasses(),  # noqa: B008 (frozen)
    rows: Sequence[dict] | None = None,
) -> tuple[nn.Module, AdapterSettings]:
    """Build the network to train, and the settings that are saved with it.

    Args:
        classes: the network gives a logit map of each, and the settings have their names.
        rows: training rows, for variants of LoRA that start from them.

    Returns:
        A `PeftModel`, or with preset full the base itself; what is trained of it requires gradients.

    Raises:
        ValueError: settings that no network has.
        OSError: the base cannot be loaded.
    """
    task = task_settings(args, spec, classes)
    form = {**preset_network_settings(args.preset), "tile_size": task.pop("tile_size")}
    form["num_labels"] = len(classes.labels)
    form |= {} if args.image_size is None else {"image_size": args.image_size}
    network = _load_base(args.base, **form)
    preset = get_preset(args.preset)
    if preset.detail_branch and network.detail_branch is None:
        raise ValueError(f"the base {args.base} has no detail branch, which preset {args.preset!r} trains")
    if args.decoder_init == "scratch":
        restart_decoder(network, args.seed)
    settings = AdapterSettings.of_network(network, preset=args.preset, **task)
    if preset.full:
        return unfreeze(network), settings
    lora = {"rank": args.rank, "lora": args.lora, "lora_targets": args.lora_targets}
    if args.lora in STARTS_FROM_DATA and rows is not None:
        network.criterion = build_criterion(args, rows, settings, classes.thin)
        lora["batches"] = _first_batches(args, spec, rows, settings, network.to(PartialState().device).device)
    return create_adapter(network, args.preset, **lora), settings


def _first_batches(
    args: TrainArguments, spec: DatasetSpec, rows: Sequence[dict], settings: AdapterSettings, device: torch.device
) -> list[dict]:
    """Give a few batches of tiles, the same on every process: what a variant of LoRA starts from."""
    tiles = build_tiles(args, rows, settings, spec.augmentation, processes=1)
    names = ("pixel_values", "labels", "valid_mask", "skeleton")
    chosen = [tiles[number] for number in evenly_spread(range(len(tiles)), _START_TILES)]
    batches = [default_collate(chosen[at : at + args.batch_size]) for at in range(0, len(chosen), args.batch_size)]
    return [{name: batch[name].to(device) for name in names if name in batch} for batch in batches]


def _load_base(base: str, **form) -> TopoSamForSegmentation:
    try:
        network = TopoSamForSegmentation.from_pretrained(base, **form)
    except OSError as error:
        raise OSError(f"cannot load the base {base}: {error}\n--base tiny needs no download.") from error
    if hasattr(network, "peft_config"):
        raise ValueError(f"{base} is an adapter: a base is a SAM, or a full network that save_pretrained wrote")
    return network


def restart_decoder(network: TopoSamForSegmentation, seed: int) -> None:
    """Draw the decoder's living parts as transformers initialises them, from the seed. All else stays."""
    decoder = network.sam.mask_decoder
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(decoder)(decoder.config).apply(network.sam._init_weights)
    for name in FAMILIES[network.config.family].decoder:
        part = name.removeprefix("mask_decoder.")
        decoder.get_submodule(part).load_state_dict(fresh.get_submodule(part).state_dict())
    network.class_masks.copy_first(decoder.output_hypernetworks_mlps[0])


def count_steps(args: TrainArguments, images: int, processes: int) -> int:
    """Count the optimizer steps: as asked, or the protocol's epochs, of one tile an image, rounded up."""
    if args.max_steps is not None:
        return args.max_steps
    tiles = args.batch_size * args.gradient_accumulation_steps * processes
    return math.ceil(PROTOCOLS[args.protocol].epochs * images / tiles)


def measure_fundus(
    args: TrainArguments, spec: DatasetSpec, rows: Sequence[dict]
) -> tuple[float | None, FovColours | None]:
    """Measure diameter and colours of the training images' fields of view, if they are fundus photographs in tiles."""
    fov = (args.fov or spec.fov) if PROTOCOLS[args.protocol].has_field_of_view else "none"
    if task_settings(args, spec)["view"] != "tiles" or fov == "none":
        return None, None
    measured = (rows[number] for number in evenly_spread(range(len(rows)), _FUNDUS_MEASURED))
    return fit_fundus(((row["image"], row["valid_mask"]) for row in measured), has_scale=spec.reader is not None)


def measure_foreground(rows: Sequence[dict], limit: int = 50) -> tuple[float, float] | None:
    """Measure the least and largest share of any class in the field of view, of rows that are evenly spread."""
    seen = (rows[number] for number in evenly_spread(range(len(rows)), limit))
    inside = [np.asarray(row["mask"]).any(axis=0)[np.asarray(row["valid_mask"], bool)] for row in seen]
    shares = [float(mask.mean()) for mask in inside if mask.size]
    return (min(shares), max(shares)) if shares else None


def build_criterion(
    args: TrainArguments, rows: Sequence[dict], settings: AdapterSettings, thin: Sequence[bool] = (True,)
) -> TopoLoss:
    """Build the objective, with as many erosions as the widest thin structure of the training masks needs."""
    iterations = PROTOCOLS[args.protocol].skeleton_iterations
    if not any(thin):  # none has a skeleton
        iterations = 1
    if iterations is None:
        full = settings.tile_size if settings.view == "full" else None
        # The first opening already takes one pixel off each side.
        half_width = largest_half_width(rows, full_tile_size=full, maps=np.flatnonzero(thin))
        iterations = min(max(half_width - 1, 1), _MOST_ITERATIONS)
    form = {"target_skeleton": args.target_skeleton, "exclusive": settings.exclusive, "thin": thin}
    return TopoLoss(iterations, args.cldice_weight, args.cldice_schedule, **form)


def build_tiles(
    args: TrainArguments, rows: Sequence[dict], settings: AdapterSettings, usual: Augmentation, processes: int
) -> TileDataset:
    """Build a data set of enough tiles for an epoch of 100 steps; `usual` is the data set's augmentation."""
    tiles_an_epoch = _STEPS_AN_EPOCH * args.batch_size * args.gradient_accumulation_steps * processes
    same_scale = replace(usual, zoom=(1.0, 1.0), noise=0.0)
    return TileDataset(
        rows,
        settings.tile_size,
        view=settings.view,
        tiles_per_image=math.ceil(tiles_an_epoch / len(rows)),
        seed=args.seed,
        augmentation={"all": usual, "same_scale": same_scale, "none": None}[args.augmentation],
        image_mean=settings.image_mean,
        image_std=settings.image_std,
        with_skeleton=args.target_skeleton == "hard",
        exclusive=settings.exclusive,
    )


def parameter_groups(args: TrainArguments, model: nn.Module, criterion: TopoLoss) -> list[dict]:
    """Group parameters for AdamW: the detail branch has its own rate; norms, biases and the objective never decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in (*model.named_parameters(), *criterion.named_parameters()):
        if parameter.requires_grad:
            rate = args.detail_learning_rate if "detail_branch" in name else args.learning_rate
            is_bias = parameter.ndim < 2 or name.endswith("bias")  # those of several classes are stacked
            decay = 0.0 if is_bias or hasattr(parameter, "held") else args.weight_decay
            groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]
