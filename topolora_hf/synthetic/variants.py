"""Other kinds as they look enlarged, as a negative, in haze or in grey."""

import numpy as np
from PIL import Image
from scipy import ndimage

from .cracks import draw_cracks
from .roads import draw_roads
from .textures import compressed
from .vessels import draw_vessels


def draw_variants(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A picture of vessels, cracks or roads: 1 to 3.5 times as large, every second one a negative.

    All of it counts: nothing is foreground outside a retina's field of view.
    """
    draw = (draw_vessels, draw_cracks, draw_roads)[rng.choice(3, p=[0.6, 0.3, 0.1])]
    zoom = rng.uniform(1, 3.5) if rng.random() < 0.6 else 1.0
    image, mask, _ = draw(rng, max(64, round(size / zoom)))
    image, mask = enlarged(compressed(rng, image), mask, size)
    if rng.random() < 0.4:  # haze
        image = (image.mean() + (image - image.mean()) * rng.uniform(0.25, 0.8)).astype(np.uint8)
    if rng.random() < 0.25:
        image = np.repeat(image @ np.array([[0.3], [0.59], [0.11]]), 3, axis=2).astype(np.uint8)
    if rng.random() < 0.5:
        image = 255 - image
    return compressed(rng, np.ascontiguousarray(image)), mask, np.ones((size, size), bool)


def enlarged(image: np.ndarray, mask: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """An image and its mask, resized to a square of side `size`."""
    if len(image) == size:
        return image, mask
    coverage = Image.fromarray(ndimage.gaussian_filter(mask.astype(np.float32), 0.6))
    smooth = coverage.resize((size, size), Image.Resampling.BICUBIC)
    image = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image), np.asarray(smooth) >= 0.5
