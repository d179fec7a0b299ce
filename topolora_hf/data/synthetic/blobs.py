"""Compact regions: polyps, dark lesions, and water with its coastline."""

import numpy as np
from scipy import ndimage

from .textures import blend, cast_shadow, colour_cast, light, noise, plain, radius_from, sensor, spots


def draw_blobs(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One picture of regions: ``(image, mask, field of view)``, uint8 (size, size, 3), bool and bool (size, size)."""
    painter = (_polyps, _polyps, _lesions, _water)[rng.integers(4)]
    image, mask = painter(rng, size)
    return image, mask, np.ones((size, size), bool)


def _outline(rng: np.random.Generator, size: int, radius: float, roughness: float) -> np.ndarray:
    """A star-shaped region as a field: 0 at its centre, 1 on its outline, larger outside.

    The pixels whose centres have a value of at most 1 are the exact mask.
    """
    margin = min(radius * 0.5, size * 0.3)  # the centre stays inside, so that the region is never lost
    x, y = rng.uniform(margin, size - margin, 2)
    centres = np.arange(size, dtype=np.float32) + 0.5
    angle = np.arctan2(centres[:, None] - np.float32(y), centres[None, :] - np.float32(x))
    turns = np.linspace(-np.pi, np.pi, 181)
    waves = np.arange(2, 9)
    amplitudes = roughness * rng.normal(0, 1, len(waves)) / waves
    phases = rng.uniform(0, 2 * np.pi, len(waves))
    reach = 1 + (amplitudes[:, None] * np.cos(waves[:, None] * turns + phases[:, None])).sum(axis=0)
    reach = radius * np.maximum(reach, 0.3)
    return radius_from(size, x, y) / np.interp(angle, turns, reach).astype(np.float32)


def _polyps(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Domes on folded mucosa, of almost its colour: seen by their shading, rim and highlights."""
    base = np.array([rng.uniform(150, 215), rng.uniform(70, 115), rng.uniform(50, 95)])
    image = plain(base) * np.exp(0.05 * noise(rng, size, size / 6, octaves=4))
    for _ in range(int(rng.integers(0, 4))):  # folds: long soft ridges with a dark side
        ridge = noise(rng, size, (size * rng.uniform(0.25, 0.6), size * rng.uniform(0.6, 1.5)))
        image *= 1 + rng.uniform(0.05, 0.14) * np.tanh(3 * ridge)
    if rng.random() < 0.6:  # the lumen, where no light comes back
        x, y = rng.uniform(-0.1, 1.1, 2) * size
        deep = np.exp(-((radius_from(size, x, y) / (size * rng.uniform(0.1, 0.3))) ** 2))
        image *= 1 - rng.uniform(0.5, 0.85) * deep
    mask = np.zeros((size, size), bool)
    tint = rng.uniform(0.85, 1.2) * np.array([1.0, rng.uniform(0.75, 1.15), rng.uniform(0.75, 1.15)])
    sun = rng.normal(0, 1, 2)
    for _ in range(1 + int(rng.random() < 0.2)):
        radius = size * rng.uniform(0.07, 0.3)
        field = _outline(rng, size, radius, rng.uniform(0.05, 0.25))
        inside = field <= 1
        mask |= inside
        height = np.sqrt(np.maximum(1 - field**2, 0))
        slopes = np.gradient(ndimage.gaussian_filter(height, 1.5))
        shade = 1 + (slopes[0] * sun[0] + slopes[1] * sun[1]) * (radius * 0.12) + 0.15 * (height - 0.6)
        surface = plain(base * tint) * np.clip(shade, 0.45, 1.6)
        surface *= np.exp(rng.uniform(0.03, 0.1) * noise(rng, size, rng.uniform(5, 15), octaves=2))
        rim = np.exp(-(((field - 1.06) / 0.07) ** 2)) * ~inside  # shadow around parts of the foot
        image *= 1 - rng.uniform(0.1, 0.45) * rim * np.clip(0.4 + noise(rng, size, radius), 0, 1)
        alpha = np.clip((1 - field) * radius / rng.uniform(1, 4) + 0.5, 0, 1)
        image = blend(image, surface, alpha)
    highlights = spots(rng, size, int(rng.integers(3, 30)), (1.0, 5.0), 0.8)
    image = blend(image, np.array([255, 250, 245]), highlights * rng.uniform(0.5, 1.0))
    image *= light(rng, size, rng.uniform(0.05, 0.2), rng.uniform(0.2, 0.7))
    return sensor(rng, colour_cast(rng, image, 0.06), rng.uniform(1, 4), rng.uniform(0.5, 1.2)), mask


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
        field = _outline(rng, size, radius, rng.uniform(0.1, 0.5))
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
    """Fills holes and removes islands of fewer than ``smallest`` pixels, which speckle would hide."""
    for value in (True, False):
        labels, _ = ndimage.label(mask == value)
        is_speck = np.bincount(labels.ravel()) < smallest
        is_speck[0] = False
        mask = np.where(is_speck[labels], not value, mask)
    return mask
