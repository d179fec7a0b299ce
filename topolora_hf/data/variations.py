"""Augmentation as a pure function of (seed, epoch, image id, tile number)."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from .augmentation import Augmentation


def tile_generator(seed: int, epoch: int, image_id: str, tile_number: int) -> np.random.Generator:
    """Make the random numbers of one tile, the same in whichever process and order tiles are made.

    >>> a, b = (tile_generator(0, 3, "21_training", 1).random() for _ in range(2))
    >>> a == b
    True
    """
    key = hashlib.blake2b(repr((seed, epoch, image_id, tile_number)).encode(), digest_size=16)
    return np.random.default_rng(int.from_bytes(key.digest(), "little"))


def draw_zoom(settings: Augmentation, rng: np.random.Generator) -> float:
    """Draw an enlargement, uniform in its logarithm, so that halving is as likely as doubling."""
    return float(np.exp(rng.uniform(*np.log(settings.zoom))))


def jitter_colours(image: torch.Tensor, settings: Augmentation, rng: np.random.Generator) -> torch.Tensor:
    """Change gamma, contrast, brightness and channel balance of a float32 (3, h, w) image in [0, 1], by six draws."""
    gamma = float(np.exp(rng.uniform(-settings.gamma, settings.gamma)))
    contrast = 1 + rng.uniform(-settings.contrast, settings.contrast)
    brightness = rng.uniform(-settings.brightness, settings.brightness)
    balance = torch.as_tensor(1 + rng.uniform(-settings.colour, settings.colour, size=3), dtype=torch.float32)
    image = image.pow(gamma)
    # Contrast, brightness and balance in one pass over the image.
    offset = image.mean() * (1 - contrast) + brightness
    return image.mul_(balance[:, None, None] * contrast).add_(balance[:, None, None] * offset).clamp_(0, 1)


def add_noise(image: torch.Tensor, settings: Augmentation, rng: np.random.Generator) -> torch.Tensor:
    """Add Gaussian noise of a random strength to a float32 (3, h, w) image in [0, 1], and clamp it there."""
    strength = rng.uniform(0, settings.noise)
    if strength == 0:
        return image
    # Twice as fast as NumPy's, which would be a fifth of a tile's time.
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    return torch.randn(image.shape, generator=generator).mul_(strength).add_(image).clamp_(0, 1)


def turn(tensors: Sequence[torch.Tensor], settings: Augmentation, rng: np.random.Generator) -> Sequence[torch.Tensor]:
    """Mirror and turn square tensors (..., T, T) together."""
    mirror_x, mirror_y = rng.random(2) < 0.5
    quarters = int(rng.integers(4))
    mirrored = [axis for axis, wanted in ((-1, mirror_x), (-2, mirror_y)) if wanted and settings.flips]
    if mirrored:
        tensors = [tensor.flip(mirrored) for tensor in tensors]
    if settings.quarter_turns and quarters:
        tensors = [torch.rot90(tensor, quarters, dims=(-2, -1)) for tensor in tensors]
    return tensors
