"""The colours of fundus photographs.

Cameras differ in colour more than retinas do: one shows vessels in three channels, the next saturates red and leaves
blue dark. The channels of a foreign photograph are shifted and stretched. Then mean and standard deviation inside its
field of view are those typical of the training images (Reinhard et al. 2001, "Color transfer between images", in RGB).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

_FOREIGN = 1.25  # times the largest value of the training images, or a part of the smallest
_LEAST = 1e-3  # a quarter of a grey level
_STATISTICS = 6


@dataclass(frozen=True)
class FovColours:
    """Means of red, green and blue inside the field of view, then their standard deviations, in [0, 1], over a set."""

    lowest: tuple[float, ...] = field(metadata={"help": "of any photograph"})
    typical: tuple[float, ...] = field(metadata={"help": "the median over the photographs"})
    highest: tuple[float, ...] = field(metadata={"help": "of any photograph"})

    def __post_init__(self):
        for name, values in vars(self).copy().items():
            right = isinstance(values, tuple | list) and len(values) == _STATISTICS
            if not right or not all(isinstance(value, int | float) and 0 <= value <= 1 for value in values):
                raise ValueError(f"{name} must be {_STATISTICS} numbers from 0 to 1, got {values!r:.100}")
            object.__setattr__(self, name, tuple(values))
        ordered = zip(self.lowest, self.typical, self.highest, strict=True)
        if not all(low <= middle <= high for low, middle, high in ordered):
            raise ValueError(f"lowest, typical and highest must be in this order, got {self}")

    @classmethod
    def of_statistics(cls, statistics: Sequence[np.ndarray]) -> "FovColours":
        """Summarise the `fov_statistics` of at least one photograph."""
        return cls(*(tuple(of(statistics, 0).tolist()) for of in (np.amin, np.median, np.amax)))

    def distance(self, statistics: np.ndarray) -> float:
        """The largest factor by which `fov_statistics` are above `highest` or below `lowest`; at most 1 inside."""
        seen, lowest, highest = (np.maximum(values, _LEAST) for values in (statistics, self.lowest, self.highest))
        return float(max((lowest / seen).max(), (seen / highest).max()))

    def adapt(self, image: np.ndarray, statistics: np.ndarray, fov: np.ndarray) -> np.ndarray:
        """Give a photograph, uint8 (H, W, 3), typical colours, if its own are outside the range of the set.

        Args:
            statistics: Its `fov_statistics`.
            fov: bool (H, W), its field of view; pixels outside stay as they are.

        Returns:
            uint8 (H, W, 3); `image` itself if its colours are within the range.

        >>> grey = FovColours(lowest=(0.4,) * 6, typical=(0.5,) * 6, highest=(0.6,) * 6)
        >>> dark = np.array([[[0, 0, 0], [51, 51, 51], [0, 0, 0]]], np.uint8)
        >>> fov = np.array([[True, True, False]])
        >>> grey.adapt(dark, fov_statistics(dark, fov), fov)[..., 0].tolist()
        [[0, 255, 0]]
        """
        if self.distance(statistics) <= _FOREIGN:
            return image
        mean, std = statistics[:3], np.maximum(statistics, _LEAST)[3:]
        typical_mean, typical_std = np.reshape(self.typical, (2, 3))
        values = np.arange(256)[:, None] / 255
        table = ((values - mean) / std * typical_std + typical_mean) * 255
        table = table.round().clip(0, 255).astype(np.uint8)
        adapted = np.stack([table[image[..., channel], channel] for channel in range(3)], axis=-1)
        return np.where(fov[..., None], adapted, image)


def fov_statistics(image: np.ndarray, fov: np.ndarray) -> np.ndarray:
    """Measure the colours of an image, uint8 (H, W, 3), inside a field of view, bool (H, W), that is not empty.

    Returns:
        (6,): means of red, green and blue, then their standard deviations, in [0, 1].
    """
    counts = np.stack([np.bincount(image[..., channel][fov], minlength=256) for channel in range(3)])
    values, shares = np.arange(256) / 255, counts / counts.sum(axis=1, keepdims=True)
    mean = shares @ values
    return np.concatenate([mean, np.sqrt((shares * (values - mean[:, None]) ** 2).sum(axis=1))])


def is_blue(statistics: Sequence[float]) -> bool:
    """Whether `fov_statistics` are of more blue than red, as a retina's are in a negative alone."""
    return bool(statistics[2] > statistics[0])
