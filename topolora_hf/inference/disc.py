"""The retinal disc of a photograph that is to be segmented."""

from dataclasses import dataclass
from math import ceil

import numpy as np
from scipy.ndimage import binary_erosion

from ..data.disc_colours import disc_statistics
from ..data.field_of_view import disc_diameter, estimate_field_of_view

# A longer side is looked at in steps.
_LARGEST = 1500
# Of a disc's diameter, from its edge inwards.
_RIM = 0.0075


@dataclass(frozen=True)
class Disc:
    """Where the retina is in a photograph.

    Attributes:
        image: uint8 (h, w, 3), the photograph, of large ones every `step`-th pixel.
        view: bool (h, w); everything where there is no disc.
        step: in pixels of the photograph.
        diameter: in pixels of the photograph; None where there is no disc.
    """

    image: np.ndarray
    view: np.ndarray
    step: int
    diameter: float | None

    @classmethod
    def find(cls, image: np.ndarray) -> "Disc":
        """That of an image, uint8 (H, W, 3)."""
        step = ceil(max(image.shape[:2]) / _LARGEST)
        small = image[::step, ::step]
        view = estimate_field_of_view(small)
        diameter = disc_diameter(view)
        return cls(small, view, step, None if diameter is None else diameter * step)

    def colours(self) -> np.ndarray:
        """Its `disc_statistics`."""
        return disc_statistics(self.image, self.view)

    def inside(self, size: tuple[int, int]) -> np.ndarray:
        """bool (H, W), of the photograph's size: the disc without its rim, which looks like a vessel."""
        view = self.view
        if self.diameter is not None:
            rim = max(1, round(_RIM * self.diameter / self.step))
            view = binary_erosion(view, iterations=rim, border_value=1)
        if self.step == 1:
            return view
        return view.repeat(self.step, 0).repeat(self.step, 1)[: size[0], : size[1]]
