"""What every reader of images returns."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Contents:
    """An image as its file has it, upright."""

    values: np.ndarray  # (H, W) grey levels or indices into the palette, or (H, W, 3); bool, integers or floats
    palette: np.ndarray | None = None  # (N, 3) uint8 RGB
    alpha: np.ndarray | None = None  # (H, W) uint8, 0 for transparent
    is_lossy: bool = False  # the format changes values
    valid: np.ndarray | None = None  # (H, W) bool, False for nodata, NaN, infinite, masked by the file; None: all is
    nodata: float | None = None  # the value that the file declares to be no data
    is_min_white: bool = False  # the file stores white as 0; `values` are as they are shown: 0 is black
    orientation: int = 1  # of EXIF or TIFF, as stored; 1 if nothing had to be turned
    names: tuple[str, ...] = ()  # of the bands
    colours: int | None = None  # how many bands from the first on are the picture; `read_contents` drops others
