"""The retinal disc of a photograph that is to be segmented."""

from functools import cached_property
from math import ceil

import numpy as np
from scipy.ndimage import binary_erosion

from .colours import disc_statistics
from .field_of_view import disc_diameter, estimate_field_of_view

# A longer side is looked at in steps.
_LARGEST = 1500
# Of a disc's diameter, from its edge inwards.
_RIM = 0.0075


class Disc:
    """Where the retina is in a photograph, uint8 (H, W, 3); it is looked for when somebody asks.

    Attributes:
        step: in pixels, at which a large photograph is looked at.
    """

    def __init__(self, photograph: np.ndarray):
        self.step = ceil(max(photograph.shape[:2]) / _LARGEST)
        self._size = photograph.shape[:2]
        self._seen = photograph[:: self.step, :: self.step]

    @cached_property
    def _view(self) -> np.ndarray:
        return estimate_field_of_view(self._seen)

    @cached_property
    def diameter(self) -> float | None:
        """In pixels of the photograph; None where it shows no disc."""
        diameter = disc_diameter(self._view)
        return None if diameter is None else diameter * self.step

    def colours(self) -> np.ndarray:
        """Its `disc_statistics`."""
        return disc_statistics(self._seen, self._view)

    def view(self) -> np.ndarray:
        """bool (H, W): the disc; everything where there is none."""
        return self._at_full_size(self._view)

    def inside(self) -> np.ndarray:
        """bool (H, W): the disc without its rim, which looks like a vessel; everything where there is no disc."""
        if self.diameter is None:
            return self.view()
        rim = max(1, round(_RIM * self.diameter / self.step))
        return self._at_full_size(binary_erosion(self._view, iterations=rim, border_value=1))

    def _at_full_size(self, view: np.ndarray) -> np.ndarray:
        if self.step == 1:
            return view
        return view.repeat(self.step, 0).repeat(self.step, 1)[: self._size[0], : self._size[1]]
