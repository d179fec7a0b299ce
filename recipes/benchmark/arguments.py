"""The benchmark's settings."""

from dataclasses import dataclass, field

import torch

from benchmark.networks import MODELS, NetworkShape
from topolora_hf.processes import usable_cores

DTYPES = ("float32", "bfloat16")
DEVICES = ("cpu", "cuda")
_QUICK = {"image_size": 512, "layers": 2, "repeats": 2}


@dataclass
class BenchmarkArguments:
    """Measure time and memory of this package beside what it replaces."""

    model: str = field(default="vit_b", metadata={"help": f"one of {', '.join(MODELS)}"})
    image_size: int | None = field(
        default=None, metadata={"help": "pixels a side, a multiple of 16; by default the model's own (vit_b: 1024)"}
    )
    layers: int | None = field(default=None, metadata={"help": "of the encoder; by default all of the model's"})
    batch_size: int = field(default=1, metadata={"help": "images a training step"})
    dtype: list[str] = field(
        default_factory=lambda: list(DTYPES),
        metadata={"help": f"precisions to measure, of {', '.join(DTYPES)}; int8 prediction goes with float32"},
    )
    device: str | None = field(default=None, metadata={"help": "cpu or cuda; by default cuda where there is one"})
    threads: int | None = field(default=None, metadata={"help": "of each process; by default the cores it may use"})
    rows: list[str] = field(
        default_factory=lambda: ["*"], metadata={"help": "which rows, by name patterns such as 'step/*' 'skeleton/*'"}
    )
    repeats: int | None = field(
        default=None, metadata={"help": "of each row after a warm-up, at least (default 3); the median is reported"}
    )
    rounds: int = field(
        default=1, metadata={"help": "times that all rows are gone through, for a machine that others use meanwhile"}
    )
    gradients: bool = field(
        default=True, metadata={"help": "compare the gradients of the training step with the authors', in float32"}
    )
    quick: bool = field(
        default=False,
        metadata={"help": "vit_b in a smaller shape: image_size 512, 2 layers, 2 repeats, where not given"},
    )
    output_dir: str = field(
        default="runs/benchmark", metadata={"help": "where benchmark.json, .md and .png are written"}
    )

    def __post_init__(self):
        if self.model not in MODELS:
            raise ValueError(f"model must be one of {', '.join(MODELS)}; got {self.model!r}")
        for name, value in _QUICK.items():
            if self.quick and self.model == "vit_b" and getattr(self, name) is None:
                setattr(self, name, value)
        self.repeats = 3 if self.repeats is None else self.repeats
        self.device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.threads = usable_cores() if self.threads is None else self.threads
        self._check()
        if self.image_size is None:
            self.image_size = self.shape.config().image_size

    def _check(self) -> None:
        if self.device not in DEVICES:
            raise ValueError(f"device must be one of {', '.join(DEVICES)}; got {self.device!r}")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device cuda: PyTorch finds no such GPU here")
        unknown = [dtype for dtype in self.dtype if dtype not in DTYPES]
        if unknown or not self.dtype:
            raise ValueError(f"dtype must be one or more of {', '.join(DTYPES)}; got {', '.join(unknown) or 'none'}")
        for name in ("image_size", "layers", "batch_size", "threads", "repeats", "rounds"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be positive, got {value}")
        if self.image_size is not None and self.image_size % 16:
            raise ValueError(f"image_size must be a multiple of 16, got {self.image_size}")

    @property
    def shape(self) -> NetworkShape:
        return NetworkShape(self.model, self.image_size, self.layers)
