"""What every reader of images returns."""

from dataclasses import dataclass

import numpy as np

from ..geotags import GeoTags


@dataclass(frozen=True)
class Contents:
    """An image as its file has it, upright.

    Attributes:
        values: (H, W) grey levels or indices into the palette, or (H, W, 3) colours; bool, integers or floats.
        palette: (N, 3) uint8 RGB, or None.
        alpha: (H, W) uint8, 0 for transparent, or None.
        is_lossy: Whether the format changes values.
        valid: (H, W) bool, False where there is no data (nodata, NaN, infinite, the file's own mask); None: all is.
        nodata: The value that the file declares to be no data, or None.
        is_min_white: The file stores white as 0. `values` are as they are shown: 0 is black.
        orientation: Of EXIF or TIFF, as stored; 1 if nothing had to be turned.
        geotags: Of a GeoTIFF, where on the map the stored pixels lie.
        colours: How many bands from the first on are the picture, if not all. A reader's; `read_contents` drops others.
    """

    values: np.ndarray
    palette: np.ndarray | None = None
    alpha: np.ndarray | None = None
    is_lossy: bool = False
    valid: np.ndarray | None = None
    nodata: float | None = None
    is_min_white: bool = False
    orientation: int = 1
    geotags: GeoTags = ()
    colours: int | None = None
