"""Cracks in pavement, concrete and plaster."""

import numpy as np

from .growth import THINNEST_PX, border_point, jagged_path, side_branch
from .strokes import Stroke, rasterise
from .textures import blend, cast_shadow, colour_cast, light, noise, plain, sensor, slope, soft_disc, spots

# Asphalt (grey, bluish, dark), concrete, sandstone, plaster.
GROUNDS = np.array(
    [[120, 120, 122], [105, 118, 140], [78, 76, 74], [165, 160, 152], [178, 155, 125], [205, 198, 188]], float
)
PAINTS = np.array([[225, 225, 220], [215, 180, 80]])


def draw_cracks(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One picture of cracks: `(image, mask, field of view)`, uint8 (size, size, 3), bool and bool (size, size)."""
    strokes = _draw_paths(rng, size)
    coverage, strength = rasterise(strokes, size)
    image = _ground(rng, size)
    # The inside is dark whatever the ground; its depth changes slowly, so that a crack fades and comes back.
    inside = image.mean(axis=(1, 2)) * rng.uniform(0.1, 0.4)
    image = blend(image, inside, np.clip(strength * rng.uniform(0.75, 1.0), 0, 1))
    image *= light(rng, size, rng.uniform(0.03, 0.15), rng.uniform(0, 0.3))
    if rng.random() < 0.3:
        image *= cast_shadow(rng, size, rng.uniform(0.2, 0.5))
    image = colour_cast(rng, image, 0.06)
    image = sensor(rng, image, rng.uniform(1.5, 6), rng.uniform(0.3, 0.7) if rng.random() < 0.5 else 0.0)
    return image, coverage >= 0.5, np.ones((size, size), bool)


def _draw_paths(rng: np.random.Generator, size: int) -> list[Stroke]:
    width = rng.uniform(1.3, 4.0) if rng.random() < 0.85 else rng.uniform(4.0, 8.0)
    roughness = rng.uniform(0.02, 0.07)
    angle = rng.uniform(0, 2 * np.pi)
    paths = []
    for _ in range(1 + int(rng.random() < 0.35) + int(rng.random() < 0.1)):
        start = border_point(rng, size, angle, 5)
        across = size / 2 + rng.uniform(-0.25, 0.25, 2) * size  # runs through the middle, to the far side or to an end
        end = start + (across - start) * (rng.uniform(1.0, 1.5) if rng.random() < 0.3 else 2.2)
        paths.append((jagged_path(rng, start, end, roughness), width * rng.uniform(0.7, 1.0)))
        angle += rng.uniform(0.6, 2.5)
    parents = list(paths)
    for _ in range(int(rng.choice([0, 1, 2, 4, 9], p=[0.2, 0.25, 0.25, 0.2, 0.1]))):
        points, parent_width = parents[rng.integers(len(parents))]
        ends = side_branch(rng, points, (0.4, 1.5), (0.12, 0.6), size)
        branch = (jagged_path(rng, *ends, roughness * 1.3), parent_width * rng.uniform(0.5, 0.9))
        paths.append(branch)
        parents.append(branch)
    return [_crack(rng, points, width) for points, width in paths]


def _crack(rng: np.random.Generator, points: np.ndarray, width: float) -> Stroke:
    """Width changes by the pixel and over tens of pixels; the ends are thin."""
    count = len(points)
    along = np.arange(count)
    slow = np.interp(along, np.linspace(0, count, 8), rng.normal(0, 0.35, 8))
    ends = np.minimum(1, 0.45 + np.minimum(along, along[::-1]) / 8)
    widths = width * np.exp(slow + rng.normal(0, 0.2, count)) * ends
    depth = np.interp(along, np.linspace(0, count, 10), rng.uniform(0.6, 1.0, 10))
    return Stroke(points, np.clip(widths, THINNEST_PX, 12), depth)


def _ground(rng: np.random.Generator, size: int) -> np.ndarray:
    """Aggregate, pores, stains, tyre marks and paint."""
    base = GROUNDS[rng.integers(len(GROUNDS))] * rng.uniform(0.75, 1.15) * rng.uniform(0.97, 1.03, 3)
    texture = rng.uniform(0.03, 0.15) * noise(rng, size, rng.uniform(2.0, 5.0), octaves=2, persistence=0.9)
    texture += rng.uniform(0.01, 0.06) * noise(rng, size, rng.uniform(15, 60), octaves=3, persistence=0.7)
    image = plain(base) * np.exp(texture)
    area = (size / 256) ** 2
    if rng.random() < 0.6:  # pale stones
        stones = spots(rng, size, int(rng.integers(20, 200) * area) + 1, (0.7, 2.5), 0.5)
        image = blend(image, base * rng.uniform(1.2, 1.6), stones * rng.uniform(0.3, 0.8))
    if rng.random() < 0.5:  # pores
        pores = spots(rng, size, int(rng.integers(10, 120) * area) + 1, (0.7, 2.2), 0.5)
        image = blend(image, base * rng.uniform(0.3, 0.6), pores * rng.uniform(0.3, 0.8))
    if rng.random() < 0.3:  # oil stain
        x, y = rng.uniform(0, size, 2)
        stain = soft_disc(size, x, y, rng.uniform(10, 45), rng.uniform(8, 30))
        image *= 1 - rng.uniform(0.1, 0.35) * stain
    if rng.random() < 0.25:  # a painted line, or a broad tyre mark: straight and wide, unlike any crack
        distance = np.abs(slope(size, rng.uniform(0, np.pi), rng.uniform(0.1, 0.9) * size))
        band = np.clip((rng.uniform(10, 24) - distance) + 0.5, 0, 1)
        if rng.random() < 0.6:
            worn = np.clip(0.75 + 0.25 * noise(rng, size, 6, octaves=2), 0, 1)
            return blend(image, PAINTS[rng.integers(2)], band * worn * 0.8)
        image = image * (1 - rng.uniform(0.08, 0.2) * band)
    return image
