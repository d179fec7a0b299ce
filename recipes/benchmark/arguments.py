"""The benchmark's settings."""

from dataclasses import dataclass

import torch

from benchmark.networks import MODELS, NetworkShape
from topolora_hf.processes import usable_cores
from topolora_hf.settings import check_limits, option

DTYPES = ("float32", "bfloat16")
DEVICES = ("cpu", "cuda")
_QUICK = {"image_size": 512, "layers": 2, "repeats": 2}


@dataclass
class BenchmarkArguments:
    """Measure time and memory of this package beside what it replaces."""

    model: str = option("vit_b", "the network", choices=MODELS)
    image_size: int | None = option(
        None, "pixels a side, a multiple of 16; by default the model's own (vit_b: 1024)", at_least=16
    )
    layers: int | None = option(None, "of the encoder; by default all of the model's", at_least=1)
    batch_size: int = option(1, "images a training step", at_least=1)
    dtype: list[str] = option(list(DTYPES), "precisions to measure; int8 prediction goes with float32", choices=DTYPES)
    device: str | None = option(None, "by default cuda where there is one", choices=DEVICES)
    threads: int | None = option(None, "of each process; by default the cores it may use", at_least=1)
    rows: list[str] = option(["*"], "which rows, by name patterns such as 'step/*' 'skeleton/*'")
    repeats: int | None = option(
        None, "of each row after a warm-up, at least (default 3); the median is reported", at_least=1
    )
    rounds: int = option(1, "times that all rows are measured, for a machine that others use meanwhile", at_least=1)
    gradients: bool = option(True, "compare the gradients of the training step with the authors', in float32")
    quick: bool = option(False, "vit_b in a smaller shape: image_size 512, 2 layers, 2 repeats, where not given")
    output_dir: str = option("runs/benchmark", "where benchmark.json, .md and .png are written")

    def __post_init__(self):
        check_limits(self)
        for name, value in _QUICK.items():
            if self.quick and self.model == "vit_b" and getattr(self, name) is None:
                setattr(self, name, value)
        self.repeats = 3 if self.repeats is None else self.repeats
        self.device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.threads = usable_cores() if self.threads is None else self.threads
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device cuda: PyTorch finds no such GPU here")
        if not self.dtype:
            raise ValueError(f"dtype must be one or more of {', '.join(DTYPES)}")
        if self.image_size is None:
            self.image_size = self.shape.config().image_size
        if self.image_size % 16:
            raise ValueError(f"image_size must be a multiple of 16, got {self.image_size}")

    @property
    def shape(self) -> NetworkShape:
        return NetworkShape(self.model, self.image_size, self.layers)
