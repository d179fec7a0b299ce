"""Compact regions: polyps, dark lesions, and water with its coastline."""

import numpy as np
from scipy import ndimage

from .outlines import draw_outline
from .polyps import draw_polyps
from .textures import (
    blend,
    cast_shadow,
    colour_cast,
    light,
    noise,
    plain,
    sensor,
    spots,
)


def draw_blobs(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One picture of regions: ``(image, mask, field of view)``, uint8 (size, size, 3), bool and bool (size, size)."""
    painter = (draw_polyps, draw_polyps, _lesions, _water)[rng.integers(4)]
    image, mask = painter(rng, size)
    return image, mask, np.ones((size, size), bool)


def _lesions(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Dark patches on skin, or bright ones on dark tissue; specks too small to count are not in the mask."""
    is_bright = rng.random() < 0.3
    tissue = np.array([80, 75, 70]) if is_bright else np.array([205, 160, 135])
    base = tissue * rng.uniform(0.7, 1.1)
    image = plain(base) * np.exp(0.04 * noise(rng, size, size / 5, octaves=4, persistence=0.7))
    mask = np.zeros((size, size), bool)
    colour = base * (rng.uniform(1.6, 2.4, 3) if is_bright else rng.uniform(0.3, 0.65, 3))
    for _ in range(int(rng.choice([1, 2, 5]))):
        radius = size * rng.uniform(0.06, 0.25)
        field = draw_outline(rng, size, radius, rng.uniform(0.1, 0.5))
        field += rng.uniform(0.02, 0.06) * noise(rng, size, size / 12, octaves=2)
        mask |= field <= 1
        patch = plain(colour) * np.exp(0.12 * noise(rng, size, size / 10, octaves=3))
        alpha = np.clip((1 - field) * radius / rng.uniform(1, 5) + 0.5, 0, 1)
        image = blend(image, patch, alpha)
    specks = spots(rng, size, int(rng.integers(3, 40)), (0.8, 2.5), 0.6) * ~mask
    image = blend(image, colour, specks * 0.6)
    image *= light(rng, size, rng.uniform(0.05, 0.2), rng.uniform(0, 0.5))
    return sensor(rng, colour_cast(rng, image, 0.06), rng.uniform(1.5, 6), rng.uniform(0.3, 0.9)), mask


def _water(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Sea, lakes or a wide river; half of the pictures as radar sees them, with speckle."""
    angle = rng.uniform(0, 2 * np.pi)
    centres = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    height = noise(rng, size, size * rng.uniform(0.3, 0.8), octaves=5, persistence=0.45)
    height += rng.uniform(0, 5) * (np.cos(angle) * centres[None, :] + np.sin(angle) * centres[:, None])
    level = np.quantile(height, rng.uniform(0.15, 0.7))
    mask = _without_specks(height < level, smallest=30)
    if rng.random() < 0.5:
        land, sea = rng.uniform(90, 150), rng.uniform(15, 45)
        relief = np.exp(0.25 * noise(rng, size, size / 8, octaves=5, persistence=0.8))
        amplitude = np.where(mask, sea, land * relief)
        looks = rng.uniform(3, 10)  # of multi-look radar: the more, the less speckle
        speckled = amplitude * np.sqrt(rng.standard_gamma(looks, (size, size)) / looks)
        targets = spots(rng, size, int(rng.integers(0, 12)) + 1, (0.8, 2.5), 0.6)  # ships and masts
        image = blend(np.repeat(speckled[None], 3, axis=0), np.array([255, 255, 255]), targets)
        return np.ascontiguousarray(np.clip(image, 0, 255).astype(np.uint8).transpose(1, 2, 0)), mask
    land = np.array([105, 110, 75]) * rng.uniform(0.8, 1.3) * rng.uniform(0.9, 1.1, 3)
    sea = np.array([40, 70, 85]) * rng.uniform(0.6, 1.3) * rng.uniform(0.85, 1.15, 3)
    relief = np.exp(0.13 * noise(rng, size, size / 6, octaves=5, persistence=0.8))
    waves = np.exp(0.04 * noise(rng, size, (4.0, 12.0), octaves=2))
    alpha = ndimage.gaussian_filter(mask.astype(np.float32), rng.uniform(0.4, 0.9))
    image = blend(plain(land) * relief, plain(sea) * waves, alpha)
    if rng.random() < 0.3:
        image *= cast_shadow(rng, size, rng.uniform(0.1, 0.3))
    return sensor(rng, colour_cast(rng, image, 0.05), rng.uniform(1, 5)), mask


def _without_specks(mask: np.ndarray, smallest: int) -> np.ndarray:
    """Fill holes and remove islands of fewer than ``smallest`` pixels, which speckle would hide."""
    for value in (True, False):
        labels, _ = ndimage.label(mask == value)
        is_speck = np.bincount(labels.ravel()) < smallest
        is_speck[0] = False
        mask = np.where(is_speck[labels], not value, mask)
    return mask
