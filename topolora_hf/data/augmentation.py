"""Paired augmentation as a pure function of (seed, epoch, image id, tile number)."""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch

from ..settings import option


@dataclass(frozen=True)
class Augmentation:
    """What is varied, and how far. Zero, False or (1, 1) turns a variation off."""

    __module__ = "topolora_hf"  # wherever the file lies

    flips: bool = option(True, "Mirror left-right and up-down, each half of the time.")
    quarter_turns: bool = option(True, "Turn by 0, 90, 180 or 270 degrees.")
    zoom: tuple[float, float] = option((0.8, 1.25), "Least and largest enlargement of the image.")
    brightness: float = option(0.15, "Largest shift, as a share of the full range.")
    contrast: float = option(0.25, "Largest relative change of the distances to the tile's mean.")
    gamma: float = option(0.3, "Largest natural logarithm of the exponent put on values in [0, 1].")
    colour: float = option(0.1, "Largest relative change of a single channel.")
    noise: float = option(0.03, "Largest standard deviation of Gaussian noise, as a share of the full range.")

    def __post_init__(self):
        low, high = self.zoom
        if not 0 < low <= high:
            raise ValueError(f"zoom must be (least, largest) with 0 < least <= largest, got {self.zoom}")
        for name in ("brightness", "contrast", "gamma", "colour", "noise"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


def tile_generator(seed: int, epoch: int, image_id: str, tile_number: int) -> np.random.Generator:
    """The random numbers of one tile, the same in whichever process and order tiles are made.

    >>> a, b = (tile_generator(0, 3, "21_training", 1).random() for _ in range(2))
    >>> a == b
    True
    """
    key = hashlib.blake2b(repr((seed, epoch, image_id, tile_number)).encode(), digest_size=16)
    return np.random.default_rng(int.from_bytes(key.digest(), "little"))


def draw_zoom(settings: Augmentation, rng: np.random.Generator) -> float:
    """An enlargement, uniform in its logarithm, so that halving is as likely as doubling."""
    low, high = np.log(settings.zoom)
    return float(np.exp(rng.uniform(low, high)))


def jitter_colours(image: torch.Tensor, settings: Augmentation, rng: np.random.Generator) -> torch.Tensor:
    """Changes gamma, contrast, brightness and channel balance.

    Args:
        image: float32 (3, h, w) in [0, 1].
        settings: How far.
        rng: Consumed by a fixed number of draws.

    Returns:
        float32 (3, h, w) in [0, 1].
    """
    gamma = float(np.exp(rng.uniform(-settings.gamma, settings.gamma)))
    contrast = 1 + rng.uniform(-settings.contrast, settings.contrast)
    brightness = rng.uniform(-settings.brightness, settings.brightness)
    balance = torch.as_tensor(1 + rng.uniform(-settings.colour, settings.colour, size=3), dtype=torch.float32)
    image = image.pow(gamma)
    # Contrast, brightness and balance in one pass over the image.
    offset = image.mean() * (1 - contrast) + brightness
    return image.mul_(balance[:, None, None] * contrast).add_(balance[:, None, None] * offset).clamp_(0, 1)


def add_noise(image: torch.Tensor, settings: Augmentation, rng: np.random.Generator) -> torch.Tensor:
    """Adds Gaussian noise of a random strength to a float32 (3, h, w) image in [0, 1], and clamps it there."""
    strength = rng.uniform(0, settings.noise)
    if strength == 0:
        return image
    # Twice as fast as NumPy's, which would be a fifth of a tile's time.
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    noise = torch.randn(image.shape, generator=generator)
    return noise.mul_(strength).add_(image).clamp_(0, 1)


def turn(
    tensors: tuple[torch.Tensor, ...], settings: Augmentation, rng: np.random.Generator
) -> tuple[torch.Tensor, ...]:
    """Mirrors and turns square tensors (..., T, T) together.

    >>> picture = torch.arange(4).reshape(2, 2)
    >>> a, b = turn((picture, picture), Augmentation(), tile_generator(0, 0, "x", 0))
    >>> bool((a == b).all())
    True
    """
    mirror_x, mirror_y = rng.random(2) < 0.5
    quarters = int(rng.integers(4))
    mirrored = [axis for axis, wanted in ((-1, mirror_x), (-2, mirror_y)) if wanted and settings.flips]
    if mirrored:
        tensors = tuple(tensor.flip(mirrored) for tensor in tensors)
    if settings.quarter_turns and quarters:
        tensors = tuple(torch.rot90(tensor, quarters, dims=(-2, -1)) for tensor in tensors)
    return tensors
