import numpy as np
import pytest
import rasterio
from rasterio import Affine
from rasterio.control import GroundControlPoint

NORTH_UP = Affine(0.5, 0, 5e5, 0, -0.5, 4.6e6)
ROTATED = Affine.translation(5e5, 4.6e6) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5)
GCPS = [GroundControlPoint(row, column, 12 + column / 1e4, 45 - row / 1e4, 0)
        for row, column in ((0, 0), (0, 90), (70, 0), (70, 90))]  # fmt: skip
PLACES = {
    "UTM": {"crs": "EPSG:32633", "transform": NORTH_UP},
    "degrees": {"crs": "EPSG:4326", "transform": Affine(1e-5, 0, 12.3, 0, -1e-5, 45)},
    "rotated": {"crs": "EPSG:32633", "transform": ROTATED},
    "no coordinate system": {"transform": NORTH_UP},
    "a system of its own": {"crs": 'LOCAL_CS["site grid",UNIT["metre",1]]', "transform": NORTH_UP},
    "control points": {"crs": "EPSG:4326", "gcps": GCPS},
    "no place": {},
}


@pytest.fixture
def write_raster():
    """A function (path, (bands, H, W), **profile) that writes a raster as rasterio does; tags and mask besides."""

    def write(path, values, tags=None, mask=None, names=(), driver="GTiff", **profile):
        bands, height, width = values.shape
        form = {"driver": driver, "dtype": values.dtype, "count": bands, "height": height, "width": width}
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=profile.pop("internal", True)):
            with rasterio.open(path, "w", **form, **profile) as dataset:
                dataset.write(values)
                dataset.update_tags(**(tags or {}))
                for band, name in enumerate(names, start=1):
                    dataset.set_band_description(band, name)
                if mask is not None:
                    dataset.write_mask(mask)
        return path

    return write


@pytest.fixture
def scene():
    """uint8 (3, 70, 90)."""
    return np.random.default_rng(0).integers(1, 256, (3, 70, 90), dtype=np.uint8)
