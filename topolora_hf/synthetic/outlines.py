"""Outlines of compact regions."""

import numpy as np

from .textures import radius_from


def draw_outline(rng: np.random.Generator, size: int, radius: float, roughness: float) -> np.ndarray:
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
