"""Fundus photographs brought to the scale and the colours of the training images."""

from collections.abc import Iterable
from functools import cached_property
from math import ceil

import numpy as np

from .colours import FovColours, fov_statistics, is_blue
from .field_of_view import estimate_field_of_view, fov_diameter, is_on_white

_LARGEST_SIDE = 1500  # pixels; a larger photograph is looked at in steps
_RIM = 0.0075  # of the diameter, from the edge of the field of view inwards
_LEAST_CHANGE_OF_SCALE = 1.1  # training varies the scale by more than this
_MUCH_FINER = 1.9  # times the training images' diameter
_SCALES_OF_FINER = (1.0, 1.5, 2.0)  # at the training scale alone, thin vessels of a finer photograph come out too wide
_ONE_SCALE = 1.2  # largest by smallest diameter, above which a training set has several scales


class FieldOfView:
    """The field of view of a photograph, uint8 (H, W, 3). It is estimated when it is first needed."""

    def __init__(self, photograph: np.ndarray):
        self.step = step_of(photograph.shape[:2])  # of the pixels that are looked at
        self._size = photograph.shape[:2]
        self._seen = photograph[:: self.step, :: self.step]

    @cached_property
    def _mask(self) -> np.ndarray:
        return estimate_field_of_view(self._seen)

    @cached_property
    def diameter(self) -> float | None:
        """In pixels of the photograph; None if none is found."""
        diameter = fov_diameter(self._mask)
        return None if diameter is None else diameter * self.step

    @cached_property
    def statistics(self) -> np.ndarray:
        """Its `fov_statistics`."""
        return fov_statistics(self._seen, self._mask)

    @property
    def is_negative(self) -> bool:
        """Whether it is blue on white: a retina is red on black."""
        return is_on_white(self._seen) and self.diameter is not None and is_blue(self.statistics)

    def mask(self) -> np.ndarray:
        """bool (H, W); True everywhere if none is found."""
        return self._at_full_size(self._mask)

    def inside(self) -> np.ndarray:
        """bool (H, W): the mask without its rim, which looks like a vessel; True everywhere if none is found."""
        if self.diameter is None:
            return self.mask()
        from scipy.ndimage import binary_erosion

        rim = max(1, round(_RIM * self.diameter / self.step))
        return self._at_full_size(binary_erosion(self._mask, iterations=rim, border_value=1))

    def _at_full_size(self, mask: np.ndarray) -> np.ndarray:
        if self.step == 1:
            return mask
        rows, columns = (np.arange(side) // self.step for side in self._size)
        return mask[:, columns][rows]


def step_of(size: tuple[int, int]) -> int:
    """Every how many rows and columns are looked at, of a photograph of that height and width."""
    return ceil(max(size) / _LARGEST_SIDE)


class FundusNormaliser:
    """What the predictor does to a photograph before it is cut into tiles. It does nothing to other images.

    Args:
        diameter: Of the training images' field of view, in pixels; None to leave the scale.
        colours: Of the training images; None to leave the colours.
        scale: Enlarge every image by this, instead of looking for a field of view.
        match_colours: Give photographs with colours outside the training range the training images' typical colours.
        within_fov: Whether the ground around the field of view, and its rim, are never foreground. None: True if
            `diameter` or `colours` is given. Other photographs have dark corners, too.
        finer_at_larger_scales: Whether photographs much finer than the training images are averaged over larger scales.
    """

    def __init__(
        self,
        diameter: float | None = None,
        colours: FovColours | None = None,
        *,
        scale: float | None = None,
        match_colours: bool = True,
        within_fov: bool | None = None,
        finer_at_larger_scales: bool = True,
    ):
        self.diameter = diameter
        self.colours = colours if match_colours else None
        self.scale = scale
        self.finer_at_larger_scales = finer_at_larger_scales and scale is None
        self.from_photographs = colours is not None and not is_blue(colours.typical)
        is_fundus = diameter is not None or colours is not None
        self.within_fov = is_fundus if within_fov is None else within_fov

    def prepare(self, image: np.ndarray) -> tuple[np.ndarray, float, FieldOfView]:
        """Normalise an image, uint8 (H, W, 3).

        Returns:
            The image with its colours changed, or itself; by how much it is to be enlarged; and its field of view.
            Where the training images were photographs, a negative of one is brought back to the photograph.
        """
        fov = FieldOfView(image)
        if self.from_photographs and fov.is_negative:
            image = 255 - image
            fov = FieldOfView(image)
        scale = self.scale or 1.0
        if self.scale is None and self.diameter is not None and fov.diameter is not None:
            ratio = self.diameter / fov.diameter
            scale = ratio if max(ratio, 1 / ratio) > _LEAST_CHANGE_OF_SCALE else 1.0
        if self.colours is not None and fov.diameter is not None:
            image = self.colours.adapt(image, fov.statistics, fov.mask())
        return image, scale, fov

    def scales(self, scale: float) -> tuple[float, ...] | None:
        """Over which a photograph is averaged that is to be enlarged by `scale`, relative to that; None: no rule."""
        return _SCALES_OF_FINER if self.finer_at_larger_scales and scale * _MUCH_FINER < 1 else None


def fit_fundus(
    photographs: Iterable[tuple[np.ndarray, np.ndarray]], has_scale: bool = True
) -> tuple[float | None, FovColours | None]:
    """Measure training images for a `FundusNormaliser`.

    Args:
        photographs: Pairs of image, uint8 (H, W, 3), and field of view, (H, W).
        has_scale: False for drawn images, whose vessels are as wide in a small field of view as in a large one.

    Returns:
        The median diameter and the colours; None and None if no field of view is round. The diameter is None, too, if
        the images have several scales.
    """
    diameters, statistics = [], []
    for image, fov in photographs:
        fov = np.asarray(fov, dtype=bool)
        if (diameter := fov_diameter(fov)) is not None:
            diameters.append(diameter)
            statistics.append(fov_statistics(np.asarray(image), fov))
    if not diameters:
        return None, None
    has_scale = has_scale and max(diameters) / min(diameters) <= _ONE_SCALE
    return float(np.median(diameters)) if has_scale else None, FovColours.of_statistics(statistics)
