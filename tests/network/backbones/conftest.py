"""Small checkpoints of each family, with random weights far from zero, as transformers saves them."""

from pathlib import Path

import pytest
import torch
from torch import nn

from benchmark.families import can_build, stock_model

FAMILIES = [
    pytest.param(name, marks=pytest.mark.skipif(not can_build(f"small-{name}"), reason="needs timm and torchvision"))
    for name in ("sam_hq", "sam2", "sam3_tracker", "edgetam")
]


@torch.no_grad()
def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every stored number a value far from its start; statistics of batch norms stay."""
    generator = torch.Generator().manual_seed(seed)
    stored = model.state_dict()
    for name, tensor in stored.items():
        if not tensor.is_floating_point() or "running" in name:
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim == 1:
            noise = 0.2 * noise + ("norm" in name and name.endswith("weight"))
        elif not (
            "pos" in name or name.endswith(("embed.weight", "token.weight", "tokens.weight", "memory_embedding"))
        ):
            noise = noise / tensor[0].numel() ** 0.5 * (3 if "hypernetworks" in name else 1)
        tensor.copy_(noise)
    return model.eval()


def mend(model: nn.Module) -> nn.Module:
    """Make transformers' SAM-HQ compute what its authors' does.

    Its decoder passes over the image that its transformer gives, and upscales the embedding from before, transposed.
    """
    seen = {}

    def replaced(_module, inputs):
        return seen["keys"].transpose(2, 3).reshape(inputs[0].shape)

    decoder = model.mask_decoder
    decoder.transformer.register_forward_hook(lambda _m, _i, outputs: seen.update(keys=outputs[1]))
    decoder.upscale_conv1.register_forward_pre_hook(replaced)
    return model


@pytest.fixture(scope="session")
def stock():
    """`stock(shape)`: transformers' own model of a shape in `benchmark.families.SHAPES`, in evaluation mode."""
    models = {}

    def make(shape: str) -> nn.Module:
        if shape not in models:
            models[shape] = randomise(stock_model(shape))
        return models[shape]

    return make


@pytest.fixture(scope="session")
def family_base(stock, tmp_path_factory):
    """`family_base(family)`: a directory that the family's own `save_pretrained` wrote, of the small shape."""
    directories = {}

    def make(family: str) -> Path:
        if family not in directories:
            directories[family] = tmp_path_factory.mktemp(family) / f"small-{family}"
            stock(f"small-{family}").save_pretrained(directories[family])
        return directories[family]

    return make
