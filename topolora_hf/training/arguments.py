"""What a training run can be told, by flags or by one YAML or JSON file."""

from dataclasses import dataclass, field

from ..adapters import PRESETS
from ..data import DataArguments
from ..network import TINY
from ..objective import CLDICE_SCHEDULES, TARGET_SKELETONS


def _option(default, text: str):
    return field(default=default, metadata={"help": text})


@dataclass(kw_only=True)
class TrainArguments(DataArguments):
    """Settings of a run; only the data set is required."""

    base: str = _option("facebook/sam-vit-base", "a SAM on the Hub, a directory, or tiny (embedded, needs no download)")
    preset: str = _option("topolora", f"which parts are trained: {', '.join(PRESETS)}")
    seed: int = _option(0, "decides initial values, order, crops, augmentation and the validation cut")
    output_dir: str | None = _option(None, "the run directory; by default runs/DATASET-PRESET-SEED")

    image_size: int | None = _option(None, "S: pixels a side that SAM's encoder sees; by default the base's own")
    tile_size: int | None = _option(None, "T: pixels a side of a tile of the image; by default the data set's")
    detail_channels: int | None = _option(None, "width of the detail branch, 0 for none; by default the preset's")
    rank: int | None = _option(None, "LoRA rank; by default the preset's")
    lora_layers: int | None = _option(
        None, "LoRA in this many of the encoder's last layers; those before need no backward pass. By default in all"
    )

    max_steps: int = _option(2500, "optimizer steps")
    batch_size: int = _option(4, "tiles a step on each process")
    gradient_accumulation_steps: int = _option(1, "batches summed into one optimizer step")
    learning_rate: float = _option(5e-4, "peak of AdamW's learning rate: warm-up, then cosine to zero")
    detail_learning_rate: float = _option(2e-3, "likewise of the detail branch, which starts from nothing")
    weight_decay: float = _option(1e-4, "of weights; norms and biases have none")
    warmup_fraction: float = _option(0.05, "part of the steps over which the learning rate rises")
    max_grad_norm: float = _option(1.0, "gradients are clipped to this norm")
    cldice_weight: float = _option(0.5, "weight of the clDice term")
    cldice_schedule: str = _option("ramp", f"of that weight: {', '.join(CLDICE_SCHEDULES)}")
    target_skeleton: str | None = _option(
        None, f"{' or '.join(TARGET_SKELETONS)}; by default hard, and soft for preset paper"
    )
    skeleton_iterations: int | None = _option(None, "rounds of soft erosion; by default from the training masks")
    augmentation: bool = _option(True, "flips, quarter turns, scale, brightness, contrast, gamma, noise")
    mixed_precision: str = _option("auto", "no, bf16, fp16; auto: bf16 where the hardware has it")
    gradient_checkpointing: bool = _option(False, "recompute the encoder in the backward pass: less memory, more time")
    cache_features: bool = _option(
        False,
        "run the encoder's frozen layers once an image, and keep what they give in a file; needs whole images "
        "without augmentation",
    )
    compile: bool = _option(
        False,
        "torch.compile the detail branch and the decoder's transformer: 5 percent faster, after a minute of compiling",
    )

    evaluate_every: int = _option(500, "steps between validations")
    threshold: float = _option(0.5, "probability from which a pixel is foreground")
    choose_threshold: bool = _option(False, "after training, choose it by the mean Dice of the validation images")
    score_untrained: bool = _option(True, "score the untrained network too (dice_before)")
    num_workers: int = _option(2, "processes that load data")
    num_threads: int | None = _option(
        None, "CPU threads of each process, on a CPU; by default the cores shared out (accelerate launch would set one)"
    )
    log_every: int = _option(10, "steps between rows of history.csv")
    log_with: str | None = _option(None, "an Accelerate tracker, such as tensorboard")
    resume: bool = _option(False, "go on from the run directory's last checkpoint")

    def __post_init__(self):
        super().__post_init__()
        if self.base == "tiny":
            self.base = TINY
        if self.output_dir is None:
            name = self.dataset.rstrip("/").split("/")[-1]
            self.output_dir = f"runs/{name}-{self.preset}-{self.seed}"
        if self.target_skeleton is None:
            self.target_skeleton = "soft" if self.preset == "paper" else "hard"
        for name in ("max_steps", "batch_size", "gradient_accumulation_steps", "evaluate_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("threshold", "warmup_fraction", "validation_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if self.mixed_precision not in ("auto", "no", "bf16", "fp16"):
            raise ValueError(f"mixed_precision must be auto, no, bf16 or fp16; got {self.mixed_precision!r}")
        for name in ("learning_rate", "detail_learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
