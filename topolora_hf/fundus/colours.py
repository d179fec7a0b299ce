"""The colours of retinal photographs, by which an adapter sees that one comes from another camera.

Cameras differ in colour more than retinas do: where vessels showed in three channels, the next one saturates red and
leaves blue dark. A foreign photograph's channels are shifted and stretched so that mean and standard deviation inside
the disc become those that are typical of the training images (Reinhard et al. 2001, "Color transfer between images",
here in RGB).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

_FOREIGN = 1.25  # times the largest value of the training images, or a part of the smallest
_LEAST = 1e-3  # a quarter of a grey level: less is nothing
_STATISTICS = 6


@dataclass(frozen=True)
class DiscColours:
    """Mean of red, green and blue inside the retinal disc, then their standard deviations, in [0, 1], over a set of
    photographs."""

    lowest: tuple[float, ...] = field(metadata={"help": "of any photograph"})
    typical: tuple[float, ...] = field(metadata={"help": "the median over the photographs"})
    highest: tuple[float, ...] = field(metadata={"help": "of any photograph"})

    def __post_init__(self):
        for name in ("lowest", "typical", "highest"):
            values = getattr(self, name)
            is_numbers = isinstance(values, tuple | list) and all(
                isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1 for value in values
            )
            if not is_numbers or len(values) != _STATISTICS:
                raise ValueError(f"{name} must be {_STATISTICS} numbers from 0 to 1, got {values!r:.100}")
            object.__setattr__(self, name, tuple(values))
        ordered = zip(self.lowest, self.typical, self.highest, strict=True)
        if not all(low <= middle <= high for low, middle, high in ordered):
            raise ValueError(f"lowest, typical and highest must be in this order, got {self}")

    @classmethod
    def of_photographs(cls, photographs: Iterable[tuple[np.ndarray, np.ndarray]]) -> "DiscColours":
        """What pairs of image (uint8 (H, W, 3)) and view (bool (H, W), not empty) have; at least one pair."""
        return cls.of_statistics([disc_statistics(image, view) for image, view in photographs])

    @classmethod
    def of_statistics(cls, statistics: Sequence[np.ndarray]) -> "DiscColours":
        """What photographs of these `disc_statistics` have; at least one."""
        return cls(*(tuple(of(statistics, 0).tolist()) for of in (np.amin, np.median, np.amax)))

    def adapt(self, image: np.ndarray, statistics: np.ndarray, view: np.ndarray) -> np.ndarray:
        """A photograph with typical colours inside its disc, where its own are foreign to the set; else itself.

        Args:
            image: uint8 (H, W, 3).
            statistics: of its disc, by `disc_statistics`.
            view: bool (H, W), where the disc is; the ground around it stays as dark as it is.

        Returns:
            uint8 (H, W, 3).

        >>> grey = DiscColours(lowest=(0.4,) * 6, typical=(0.5,) * 6, highest=(0.6,) * 6)
        >>> dark = np.array([[[0, 0, 0], [51, 51, 51], [0, 0, 0]]], np.uint8)
        >>> view = np.array([[True, True, False]])
        >>> grey.adapt(dark, disc_statistics(dark, view), view)[..., 0].tolist()
        [[0, 255, 0]]
        """
        seen, lowest, highest = (np.maximum(values, _LEAST) for values in (statistics, self.lowest, self.highest))
        if max((lowest / seen).max(), (seen / highest).max()) <= _FOREIGN:
            return image
        mean, std = statistics[:3], seen[3:]
        typical_mean, typical_std = np.reshape(self.typical, (2, 3))
        values = np.arange(256)[:, None] / 255
        table = ((values - mean) / std * typical_std + typical_mean) * 255
        table = table.round().clip(0, 255).astype(np.uint8)
        adapted = np.stack([table[image[..., channel], channel] for channel in range(3)], axis=-1)
        return np.where(view[..., None], adapted, image)


def disc_statistics(image: np.ndarray, view: np.ndarray) -> np.ndarray:
    """(6,): mean of red, green and blue where the view is, then their standard deviations, in [0, 1].

    Args:
        image: uint8 (H, W, 3).
        view: bool (H, W), not empty.
    """
    inside = image[view].astype(np.float32) / 255
    return np.concatenate([inside.mean(0), inside.std(0)]).astype(np.float64)
