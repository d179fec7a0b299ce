"""What a training run can be told, by flags or by one YAML or JSON file."""

import json
import math
import sys
from collections.abc import Collection, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, fields
from pathlib import Path

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ..adapter_format.names import full_base_name
from ..adapter_format.presets import PRESETS, get_preset
from ..data.arguments import DataArguments
from ..network.segmenter import TopoSamForSegmentation
from ..objective.losses import CLDICE_SCHEDULES, TARGET_SKELETONS
from ..settings import option
from .numerics import ON_NON_FINITE

_MAX_STEPS = 2500
_CALIBRATE_ON = ("validation", "train")
_DECODER_INITS = ("sam", "scratch")
_VIEWS = ("tiles", "whole")


@dataclass(kw_only=True)
class TrainArguments(DataArguments):
    """Settings of a run; only the data set is required."""

    __module__ = "topolora_hf"  # wherever the file lies

    base: str = option("facebook/sam-vit-base", "a SAM on the Hub, a directory, or embedded: tiny, tiny-regions, ...")
    preset: str = option("topolora", f"which parts are trained: {', '.join(PRESETS)}")
    seed: int = option(0, "decides initial values, order, crops, augmentation and the validation cut")
    output_dir: str | None = option(None, "the run directory; by default runs/DATASET-PRESET-SEED")

    image_size: int | None = option(None, "S: pixels a side that SAM's encoder sees; by default the base's own")
    view: str | None = option(
        None,
        "tiles: crops at the image's own resolution, for thin structures; whole: the image resized to one tile, for "
        "regions such as polyps; by default the data set's, of a folder tiles",
    )
    tile_size: int | None = option(None, "T: pixels a side of a tile of the image; by default the data set's")
    detail_channels: int | None = option(None, "width of the detail branch, 0 for none; by default the preset's")
    detail_context: bool | None = option(
        None,
        "whether the detail branch sees further, by dilated blocks; by default as the base's (a SAM's does)",
    )
    rank: int | None = option(None, "LoRA rank; by default the preset's")
    lora_layers: int | None = option(
        None, "LoRA in this many of the encoder's last layers; those before need no backward pass. By default in all"
    )

    train_images: int | None = option(
        None, "train on this many images only, drawn by the seed (more of them add to fewer); by default on all"
    )
    decoder_init: str = option(
        "sam", "what the decoder starts from; sam: the base's own weights; scratch: random ones, drawn from the seed"
    )

    max_steps: int | None = option(None, f"optimizer steps; by default {_MAX_STEPS}")
    epochs: float | None = option(
        None, "in place of max_steps: passes over the training images, an image a pass (of tiles: one of its tiles)"
    )
    batch_size: int = option(4, "tiles a step on each process")
    gradient_accumulation_steps: int = option(1, "batches summed into one optimizer step")
    learning_rate: float = option(5e-4, "peak of AdamW's learning rate: warm-up, then cosine to zero")
    detail_learning_rate: float = option(2e-3, "likewise of the detail branch, which starts from nothing")
    weight_decay: float = option(1e-4, "of weights; norms and biases have none")
    warmup_fraction: float = option(0.05, "part of the steps over which the learning rate rises")
    max_grad_norm: float = option(1.0, "gradients are clipped to this norm; inf: not at all")
    ema_decay: float = option(
        0.0, "of a moving average of the weights, which is then what is scored and saved; 0: the last step's weights"
    )
    cldice_weight: float = option(0.5, "weight of the clDice term")
    cldice_schedule: str = option("ramp", f"of that weight: {', '.join(CLDICE_SCHEDULES)}")
    coarse_weight: float = option(
        0.0, "weight of BCE + Dice of SAM's own mask, which the detail branch corrects: keeps SAM's part at work"
    )
    sam_dropout: float = option(
        0.0, "part of each batch's tiles that the detail branch segments without SAM: it learns to do without"
    )
    target_skeleton: str | None = option(
        None, f"{' or '.join(TARGET_SKELETONS)}; by default hard, and soft for preset paper"
    )
    skeleton_iterations: int | None = option(None, "rounds of soft erosion; by default from the training masks")
    augmentation: bool = option(True, "flips, quarter turns, scale, brightness, contrast, gamma, noise")
    zoom: float | None = option(
        None, "enlarge and shrink by this much at most while training, 1 for not at all; by default 1.25"
    )
    noise: float | None = option(
        None, "largest deviation of Gaussian noise while training, as a share of the full range; by default 0.03"
    )
    mixed_precision: str = option("auto", "no, bf16, fp16; auto: bf16 where the hardware has it")
    float64: bool = option(
        False, "weights and arithmetic in double precision: slow, and a way to tell rounding from error"
    )
    on_non_finite: str = option(
        "stop",
        f"{' or '.join(ON_NON_FINITE)}: what a loss or gradient that is infinite or not a number does",
    )
    auto_batch_size: bool = option(
        False, "where a batch does not fit into memory, halve it until it does, and accumulate to the same tiles a step"
    )
    gradient_checkpointing: bool = option(False, "recompute the encoder in the backward pass: less memory, more time")
    cache_features: bool = option(
        False,
        "run the encoder's frozen layers once an image, and keep what they give in a file; needs whole images "
        "without augmentation",
    )
    compile: bool = option(
        False,
        "torch.compile the detail branch and the decoder's transformer: 5 percent faster, after a minute of compiling",
    )

    evaluate_every: int = option(500, "steps between validations")
    threshold: float = option(0.5, "probability from which a pixel is foreground")
    choose_threshold: bool = option(False, "after training, choose it by the mean Dice of the validation images")
    calibrate: bool = option(
        False, "after training, calibrate the probabilities on the validation images; the masks stay"
    )
    calibrate_on: str = option(
        "validation", "what calibrate is fitted on: validation images, or those of train, where all are trained on"
    )
    test_time_flips: bool = option(
        False, "average the probabilities of each tile's four mirrorings: four times the time; not while training"
    )
    test_time_scales: list[float] = option(
        [1.0], "average the probabilities at each of these times the image's size; not while training"
    )
    score_untrained: bool = option(True, "score the untrained network too (dice_before)")
    num_workers: int = option(2, "processes that load data")
    num_threads: int | None = option(
        None, "CPU threads of each process, on a CPU; by default the cores shared out (accelerate launch would set one)"
    )
    log_every: int = option(10, "steps between rows of history.csv")
    log_with: str | None = option(None, "an Accelerate tracker, such as tensorboard")
    checkpoint_every: int = option(100, "steps between checkpoints; the last two are kept")
    resume: bool = option(
        False, "fail where there is no checkpoint to go on from; the same command goes on from its last one anyway"
    )
    overwrite: bool = option(False, "start anew, whatever the run directory holds of this run or another")

    push_to_hub: bool = option(False, "publish the adapter when it is trained and scored (see `hf auth login`)")
    hub_model_id: str | None = option(None, "the repository, org/name or name; by default the run directory's name")
    private: bool = option(False, "make that repository a private one")

    def __post_init__(self):
        super().__post_init__()
        self.base = full_base_name(self.base)
        if self.output_dir is None:
            name = self.dataset.rstrip("/").split("/")[-1]
            self.output_dir = f"runs/{name}-{self.preset}-{self.seed}"
        if self.target_skeleton is None:
            self.target_skeleton = "soft" if self.preset == "paper" else "hard"
        if self.epochs is None:
            self.max_steps = _MAX_STEPS if self.max_steps is None else self.max_steps
        elif self.max_steps is not None:
            raise ValueError(f"give max_steps or epochs, not both; got {self.max_steps} and {self.epochs}")
        elif not 0 < self.epochs < math.inf:
            raise ValueError(f"epochs must be positive and finite, got {self.epochs}")
        intervals = ("evaluate_every", "log_every", "checkpoint_every")
        for name in ("max_steps", "batch_size", "gradient_accumulation_steps", *intervals):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.zoom is not None and not 1 <= self.zoom < math.inf:
            raise ValueError(f"zoom must be 1 (none) or more, and finite, got {self.zoom}")
        if self.noise is not None and not 0 <= self.noise < 1:
            raise ValueError(f"noise must be in [0, 1), got {self.noise}")
        if not self.augmentation and (self.zoom, self.noise) != (None, None):
            raise ValueError(f"zoom ({self.zoom}) and noise ({self.noise}) have no use without augmentation")
        if self.view is not None and (self.view not in _VIEWS or self.protocol == "paper"):
            allowed = "left out with protocol paper" if self.protocol == "paper" else " or ".join(_VIEWS)
            raise ValueError(f"view must be {allowed}, got {self.view!r}")
        for name, least in (("train_images", 1), ("num_threads", 1), ("num_workers", 0), ("skeleton_iterations", 0)):
            if getattr(self, name) is not None and getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("threshold", "warmup_fraction", "validation_fraction", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if self.calibrate_on not in _CALIBRATE_ON:
            raise ValueError(f"calibrate_on must be one of {', '.join(_CALIBRATE_ON)}; got {self.calibrate_on!r}")
        if self.calibrate_on != "validation" and not self.calibrate:
            raise ValueError(f"calibrate_on={self.calibrate_on!r} is for runs with calibrate")
        if self.calibrate_on == "train" and self.protocol == "paper":
            raise ValueError("protocol paper squashes no training images: calibrate_on must be validation")
        preset = get_preset(self.preset)
        if preset.whole and (self.rank, self.lora_layers) != (None, None):
            raise ValueError(
                f"preset {self.preset!r} trains the base itself, without LoRA: it has no use for rank {self.rank}, "
                f"lora_layers {self.lora_layers}"
            )
        has_detail = preset.detail_branch if self.detail_channels is None else self.detail_channels > 0
        of_both = {
            "coarse_weight": "SAM's mask where a detail branch corrects it",
            "sam_dropout": "SAM beside a detail branch",
        }
        for name, what in of_both.items():
            if getattr(self, name) and not (preset.use_sam and has_detail):
                raise ValueError(
                    f"{name} is for {what}; preset {self.preset!r} with detail_channels {self.detail_channels} has no "
                    "such thing"
                )
        if self.sam_dropout:
            self._check_sam_dropout()
        if self.detail_context and not has_detail:
            raise ValueError(
                f"detail_context is for a detail branch; preset {self.preset!r} with detail_channels "
                f"{self.detail_channels} has none"
            )
        if self.decoder_init not in _DECODER_INITS:
            raise ValueError(f"decoder_init must be {' or '.join(_DECODER_INITS)}, got {self.decoder_init!r}")
        if self.mixed_precision not in ("auto", "no", "bf16", "fp16"):
            raise ValueError(f"mixed_precision must be auto, no, bf16 or fp16; got {self.mixed_precision!r}")
        if self.on_non_finite not in ON_NON_FINITE:
            raise ValueError(f"on_non_finite must be {' or '.join(ON_NON_FINITE)}, got {self.on_non_finite!r}")
        if self.float64:
            if self.mixed_precision not in ("auto", "no"):
                raise ValueError(f"float64 is not mixed with {self.mixed_precision}")
            self.mixed_precision = "no"
        if self.resume and self.overwrite:
            raise ValueError("give resume or overwrite, not both")
        self._check_push()
        for name in ("learning_rate", "detail_learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")
        for name in ("weight_decay", "cldice_weight", "coarse_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more, and finite, got {getattr(self, name)}")
        if not self.max_grad_norm > 0:
            raise ValueError(f"max_grad_norm must be positive (inf: nothing is clipped), got {self.max_grad_norm}")
        self.max_grad_norm = min(self.max_grad_norm, sys.float_info.max)  # JSON knows no infinity

    @property
    def repository(self) -> str:
        """What the adapter is called on the Hub."""
        return self.hub_model_id or Path(self.output_dir).resolve().name

    def load_base(self, **form) -> TopoSamForSegmentation:
        """The base, in the form that these keyword arguments of `TopoSamForSegmentation.from_pretrained` say."""
        return TopoSamForSegmentation.from_pretrained(self.base, **form)

    def _check_sam_dropout(self) -> None:
        with_sam = self.batch_size * (1 - self.sam_dropout)
        if not 0 < self.sam_dropout < 1 or round(with_sam) < 1 or abs(with_sam - round(with_sam)) > 1e-6:
            raise ValueError(
                f"sam_dropout must be in [0, 1) and leave SAM a whole number of a batch's {self.batch_size} tiles, got "
                f"{self.sam_dropout}"
            )
        if self.coarse_weight or self.auto_batch_size:
            raise ValueError("sam_dropout goes neither with coarse_weight nor with auto_batch_size")

    def _check_push(self) -> None:
        if not self.push_to_hub:
            if self.hub_model_id is not None or self.private:
                raise ValueError("hub_model_id and private are for runs with push_to_hub")
            return
        if get_preset(self.preset).whole:
            raise ValueError(f"push_to_hub publishes adapters, and preset {self.preset!r} trains none")
        try:
            validate_repo_id(self.repository)
        except HFValidationError as error:
            raise ValueError(
                f"{self.repository!r} cannot be a repository's name (give hub_model_id): {error}"
            ) from error


def _default(item: Field) -> object:
    return item.default if item.default_factory is MISSING else item.default_factory()


def changed_settings(before: Mapping, args, free: Collection[str] = ()) -> list[str]:
    """What differs between settings as a file holds them and settings now, in words.

    Args:
        before: by name; a setting that the file could not know yet had what is now its default.
        args: now, a dataclass.
        free: names that may differ.
    """
    before = {item.name: _default(item) for item in fields(args)} | dict(before)
    now = json.loads(json.dumps(asdict(args)))
    return [
        f"{name} was {before.get(name)!r}, is {value!r}"
        for name, value in now.items()
        if name not in free and before.get(name) != value
    ]
