"""Compact regions: polyps as an endoscope shows them, dark lesions, and water with its coastline."""

import numpy as np
from scipy import ndimage

from .textures import blend, cast_shadow, colour_cast, light, noise, plain, radius_from, sensor, spots

GLARE = np.array([255, 250, 245])
RESIDUE = np.array([215, 165, 60])


def draw_blobs(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One picture of regions: `(image, mask, field of view)`, uint8 (size, size, 3), bool and bool (size, size)."""
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
    """Fill holes and remove islands of fewer than `smallest` pixels, which speckle would hide."""
    for value in (True, False):
        labels, _ = ndimage.label(mask == value)
        is_speck = np.bincount(labels.ravel()) < smallest
        is_speck[0] = False
        mask = np.where(is_speck[labels], not value, mask)
    return mask


def _polyps(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """One to four domes of almost the colour of the gut's wall: seen by shading, rim, texture and highlights."""
    base = np.array([rng.uniform(150, 225), rng.uniform(75, 125), rng.uniform(55, 105)])
    image, height = _wall(rng, size, base)
    mask = np.zeros((size, size), bool)
    for _ in range(int(rng.choice([1, 2, 3, 4], p=[0.75, 0.15, 0.06, 0.04]))):
        image, inside = _add_polyp(rng, image, height, base)
        mask |= inside
    if rng.random() < 0.35:
        image = _add_residue(rng, image, mask)
    image = _add_glare(rng, image, height)
    image *= light(rng, size, rng.uniform(0.05, 0.25), rng.uniform(0.0, 0.6))
    image = sensor(rng, colour_cast(rng, image, 0.08), rng.uniform(1, 4), rng.uniform(0.4, 1.1))
    if rng.random() < 0.6:
        visible = _frame(rng, size)
        if (mask & visible).any():  # else every polyp would be lost
            return _beside_the_frame(rng, image, visible), mask & visible
    return image, mask


def _wall(rng: np.random.Generator, size: int, base: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mucosa, `(image, height)`: folds run in rings around the lumen, where no light comes back."""
    x, y = rng.uniform(-0.3, 1.3, 2) * size
    warp = np.exp(rng.uniform(0.1, 0.35) * noise(rng, size, size * rng.uniform(0.3, 0.8), octaves=2))
    reach = radius_from(size, x, y) / size * warp
    # From a fold's crest outwards the wall falls away slowly; behind the crest, towards the lumen, it is in the dark.
    rings = rng.uniform(2, 6) * np.log(reach + rng.uniform(0.05, 0.3)) + rng.uniform(0, 1)
    behind = rings - np.floor(rings)
    strength = np.clip(rng.uniform(-0.3, 0.9) + 0.6 * noise(rng, size, size / 3), 0, 1)
    crest = np.exp(-behind / rng.uniform(0.1, 0.3))
    gap = np.exp(-(1 - behind) / rng.uniform(0.05, 0.2))
    folds = strength * (rng.uniform(0.1, 0.35) * crest - rng.uniform(0.2, 0.6) * gap)
    relief = noise(rng, size, size * rng.uniform(0.1, 0.3), octaves=3)
    image = plain(base) * (1 + ndimage.gaussian_filter(folds, 0.7)) * np.exp(rng.uniform(0.02, 0.08) * relief)
    if rng.random() < 0.75:
        far = np.exp(-((reach / rng.uniform(0.1, 0.45)) ** 2))
        image *= 1 - rng.uniform(0.5, 0.95) * far
    if rng.random() < 0.4:  # its small vessels
        lines = np.abs(noise(rng, size, size * rng.uniform(0.06, 0.15), octaves=2))
        alpha = rng.uniform(0.1, 0.4) * np.exp(-((lines / 0.08) ** 2)) * np.clip(noise(rng, size, size / 3), 0, 1)
        image = blend(image, base * np.array([0.75, 0.4, 0.4]), alpha)
    return image, ndimage.gaussian_filter(0.5 * strength * crest + 0.15 * relief, 1.0)


def _add_polyp(
    rng: np.random.Generator, image: np.ndarray, height: np.ndarray, base: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`(image, inside)`; the dome is added to `height`, in place."""
    size = image.shape[1]
    radius = size * rng.uniform(0.07, 0.36)
    field = _outline(rng, size, radius, rng.uniform(0.05, 0.3))
    if rng.random() < 0.4:  # lobes
        field *= 1 + rng.uniform(0.03, 0.1) * noise(rng, size, radius * rng.uniform(0.3, 0.8))
    inside = field <= 1
    dome = np.sqrt(np.maximum(1 - field**2, 0))
    bumps = noise(rng, size, max(3.0, radius * rng.uniform(0.1, 0.4)), octaves=2)
    dome = dome * (1 + rng.uniform(0, 0.12) * bumps)
    steepness = rng.uniform(0.05, 0.16) * radius
    down, across = np.gradient(ndimage.gaussian_filter(dome, 1.2))
    sun = rng.normal(0, 1, 2)
    facing = rng.uniform(0.05, 0.4) * (dome - 0.6)  # the lamp is beside the camera: a steep flank is darker
    shade = 1 + rng.uniform(0, 0.25) + np.clip(steepness * (down * sun[0] + across * sun[1]), -0.4, 0.4) + facing
    shade *= np.exp(rng.uniform(0.02, 0.1) * noise(rng, size, rng.uniform(4, 15), octaves=2))
    tint = rng.uniform(0.9, 1.15) * np.array([1.0, rng.uniform(0.8, 1.25), rng.uniform(0.75, 1.25)])
    surface = plain(np.minimum(base * tint, 250)) * np.clip(shade, 0.4, 1.7)
    if rng.random() < 0.3:  # redder, or with a pale coat, in patches
        patches = np.clip(noise(rng, size, radius * 0.6, octaves=2), 0, 1) * rng.uniform(0.2, 0.6)
        surface = blend(surface, base * np.array([0.9, 0.45, 0.45]) if rng.random() < 0.6 else GLARE * 0.85, patches)
    flatness = rng.uniform(0.3, 0.8) if rng.random() < 0.35 else 1.0  # a flat one lets the wall's own shading through
    around = np.exp(-(((field - 1.05) / rng.uniform(0.04, 0.12)) ** 2)) * ~inside
    image = image * (1 - rng.uniform(0, 0.5) * around * np.clip(0.3 + noise(rng, size, 2 * radius), 0, 1))
    alpha = flatness * np.clip((1 - field) * radius / rng.uniform(1, 5) + 0.5, 0, 1)
    height *= 1 - inside
    height += rng.uniform(0, 1.2) * dome * inside
    return blend(image, surface, alpha), inside


def _add_residue(rng: np.random.Generator, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Yellow stains, seldom on a polyp."""
    size = image.shape[1]
    field = noise(rng, size, size * rng.uniform(0.1, 0.4), octaves=4, persistence=0.6)
    alpha = np.clip((field - rng.uniform(1.0, 2.0)) * 3, 0, 1) * rng.uniform(0.3, 0.9)
    if rng.random() < 0.7:
        alpha = alpha * ~mask
    grain = np.exp(0.15 * noise(rng, size, 6, octaves=2))
    return blend(image, plain(RESIDUE * rng.uniform(0.6, 1.1)) * grain, alpha)


def _add_glare(rng: np.random.Generator, image: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Highlights: on what stands out and faces the lamp, in patches, and a few anywhere."""
    size = image.shape[1]
    wet = height + rng.uniform(0.15, 0.5) * noise(rng, size, (rng.uniform(4, 10), rng.uniform(4, 10)), octaves=2)
    patches = np.clip((wet - np.quantile(wet, rng.uniform(0.975, 0.998))) * rng.uniform(4, 12), 0, 1)
    image = blend(image, GLARE, ndimage.gaussian_filter(patches, 0.6) * rng.uniform(0.5, 1.0))
    return blend(image, GLARE, spots(rng, size, int(rng.integers(1, 12)), (0.8, 3.0), 0.7) * rng.uniform(0.4, 1.0))


def _frame(rng: np.random.Generator, size: int) -> np.ndarray:
    """What an endoscope's screen shows: a square with its corners cut, or a disc; often another box covers a part."""
    centres = np.abs(np.arange(size, dtype=np.float32) + 0.5 - size / 2) / (size / 2)
    across, down = centres[None, :], centres[:, None]
    if rng.random() < 0.75:
        edge = rng.uniform(0.93, 1.02, 2)
        visible = (across <= edge[0]) & (down <= edge[1]) & (across + down <= rng.uniform(1.4, 1.8))
    else:
        visible = np.hypot(across, down) <= rng.uniform(0.95, 1.25)
    if rng.random() < 0.3:
        side = int(rng.uniform(0.2, 0.4) * size)
        visible[size - side :, : int(side * rng.uniform(0.8, 1.3))] = False
    return visible


def _beside_the_frame(rng: np.random.Generator, image: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Black around the frame, with lines of small text at the left."""
    size = len(image)
    image = np.where(visible[..., None], image, rng.integers(0, 12)).astype(np.uint8)
    if rng.random() < 0.6:
        top = int(rng.uniform(0.1, 0.6) * size)
        for row in range(top, min(top + int(rng.integers(2, 12)) * 4, size - 2), 4):
            length = int(rng.uniform(0.03, 0.15) * size)
            dots = rng.random((2, length)) < 0.55
            image[row : row + 2, 2 : 2 + length][dots] = 235
    return image
