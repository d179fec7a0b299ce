"""Rectangles of an image, inside it or reaching over its border, brought to a square tile."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
"""SAM's own normalisation of RGB values in [0, 1]."""


@dataclass(frozen=True)
class Window:
    """A rectangle in pixels of an image; `top` and `left` are negative where it reaches over the border."""

    top: int
    left: int
    height: int
    width: int

    @property
    def inside(self) -> tuple[slice, slice]:
        """The rows and columns of an image that lie in the window."""
        bottom, right = self.top + self.height, self.left + self.width
        return slice(max(self.top, 0), max(bottom, 0)), slice(max(self.left, 0), max(right, 0))


def normalise(image: np.ndarray, mean: Sequence[float] = IMAGE_MEAN, std: Sequence[float] = IMAGE_STD) -> torch.Tensor:
    """Bring a uint8 (H, W, 3) RGB image to what the network sees: float32 (3, H, W).

    `mean` and `std` are those of each channel, for values in [0, 1].

    >>> normalise(np.full((2, 2, 3), 255, np.uint8), mean=(0.5,) * 3, std=(0.25,) * 3).unique().tolist()
    [2.0]
    """
    return standardise(to_unit_range(image), mean, std)


def to_unit_range(image: np.ndarray) -> torch.Tensor:
    """uint8 (H, W, 3) to float32 (3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float().div_(255)


def standardise(image: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Subtract the mean and divide by the standard deviation of each channel of a (3, H, W) image."""
    return (image - torch.tensor(mean)[:, None, None]).div_(torch.tensor(std)[:, None, None])


def random_window(valid_mask: np.ndarray, height: int, width: int, rng: np.random.Generator, tries: int) -> Window:
    """A window anywhere in the image, centred inside the field of view (bool (H, W)) if a few tries allow it.

    Along an axis shorter than the window, the image lies anywhere inside it.
    """
    axes = list(zip(valid_mask.shape, (height, width), strict=True))
    for _ in range(tries):
        corner = [int(rng.integers(min(0, size - side), max(0, size - side) + 1)) for size, side in axes]
        centre = [min(max(start + side // 2, 0), size - 1) for start, (size, side) in zip(corner, axes, strict=True)]
        if valid_mask[*centre]:
            break
    return Window(*corner, height, width)


def pad_outside(tensor: torch.Tensor, window: Window, height: int, width: int) -> torch.Tensor:
    """Undo what `window.inside` cuts off at the border of an image of `height` and `width`, with zeros (False)."""
    below = max(window.top + window.height - height, 0)
    right = max(window.left + window.width - width, 0)
    return F.pad(tensor, (max(-window.left, 0), right, max(-window.top, 0), below))


def resize_image(image: torch.Tensor, size: int) -> torch.Tensor:
    """A float (C, h, w) image to (C, size, size): bilinear, antialiased when shrinking."""
    if image.shape[-2:] == (size, size):
        return image
    # When enlarging, antialiasing changes nothing and costs twice the time.
    shrinks = size < max(image.shape[-2:])
    return F.interpolate(image[None], (size, size), mode="bilinear", antialias=shrinks, align_corners=False)[0]


def resize_mask(mask: torch.Tensor, size: int) -> torch.Tensor:
    """Bool (K, h, w) masks to (K, size, size), crisp, with their thin lines whole.

    Cutting the resized mask at half of its range breaks lines of one or two pixels into dashes: a line of width 1
    covers at most `scale` of a smaller pixel, and half of that where it runs between two. A lower cut keeps lines
    whole but makes everything fatter, so only the centreline is taken from it. (DRIVE at scale 0.8 has about 100
    times as many components when cut at half or by nearest neighbours; with this 0.99 times, and 2 % more area.)
    """
    if mask.shape[-2:] == (size, size):
        return mask
    coverage = resize_image(mask.float(), size)
    scale = min(1.0, size / mask.shape[-2], size / mask.shape[-1])
    return (coverage >= 0.5) | hard_skeleton(coverage >= 0.45 * scale)


def resize_valid_mask(valid_mask: torch.Tensor, size: int) -> torch.Tensor:
    """A bool (h, w) field of view to (size, size): valid only where nothing else was mixed in."""
    if valid_mask.all():  # most tiles of most sets
        return torch.ones(size, size, dtype=torch.bool)
    return resize_image(valid_mask[None].float(), size)[0] > 0.999


def hard_skeleton(mask: torch.Tensor) -> torch.Tensor:
    """The one-pixel centreline of each of bool (K, h, w) masks, as scikit-image thins it."""
    from skimage.morphology import skeletonize

    return torch.from_numpy(np.stack([skeletonize(each) for each in mask.numpy()]))
