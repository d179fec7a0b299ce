"""Write GeoTIFFs: tiled, compressed, whole or not at all."""

import errno
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..data.errors import DataError
from ..data.place import Place, opened_raster, place_of
from ..files import whole_file

SOFTWARE = "topolora_hf"
_SIDE = 512  # of a tile


def write_geotiff(
    path: str | Path,
    values: np.ndarray,
    place: Place | None = None,
    *,
    nodata: float | None = None,
    names: Sequence[str] = (),
    colours: Mapping[int, tuple[int, int, int]] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write an array at its place on the map, then read it again and compare: GDAL loses errors of a full disk.

    Args:
        path: Its name. A file of that name is replaced if this package wrote it.
        values: (H, W) or (bands, H, W), uint8, uint16 or float32; a memory map is written by rows.
        place: That of the image of the same size.
        nodata: The value of pixels without data.
        names: Of the bands.
        colours: Of values, for one band of uint8.
        tags: GDAL's metadata.

    Raises:
        DataError: A GeoTIFF cannot hold the coordinate system.
        FileExistsError: Another program wrote a file of that name.
        OSError: It cannot be written, as on a full disk.
    """
    path, place = Path(path), place or Place()
    if path.exists() and not _is_ours(path):  # perhaps the image itself
        raise FileExistsError(f"{path} was not written by {SOFTWARE} and is not replaced: choose another name")
    values = values[None] if values.ndim == 2 else values
    with whole_file(path) as temporary:
        try:
            _write(temporary, values, place, nodata, names, colours, tags or {})
            with opened_raster(temporary) as dataset:
                is_whole = all(np.array_equal(dataset.read(window=at), part, equal_nan=values.dtype.kind == "f")
                               for at, part in _parts(values))  # fmt: skip
                found = place_of(dataset) or Place()
        except DataError:
            is_whole, found = False, place
        except Exception as error:  # GDAL's own errors are of a private class
            raise OSError(errno.EIO, f"GDAL cannot write it: {error}") from error
        if not is_whole:
            raise OSError(errno.EIO, "what is read again is not what was written; the disk may be full")
        if found.differs(place, *values.shape[1:]) or bool(found.crs) != bool(place.crs):
            raise DataError(f"{path}: a GeoTIFF cannot hold the coordinate system of its image: {place.name}")


def _write(
    path: Path, values: np.ndarray, place: Place, nodata: float | None, names: Sequence[str], colours, tags
) -> None:
    import rasterio

    count, height, width = values.shape
    form = {"driver": "GTiff", "dtype": values.dtype, "count": count, "height": height, "width": width,
            "nodata": nodata}  # fmt: skip
    packing = {"compress": "deflate", "predictor": {"f": 3}.get(values.dtype.kind, min(2, values.itemsize)),
               "tiled": True, "blockxsize": _SIDE, "blockysize": _SIDE, "bigtiff": "if_safer"}  # fmt: skip
    where = {"crs": place.crs, "transform": place.transform, "gcps": list(place.gcps) or None, "rpcs": place.rpcs}
    with (
        rasterio.Env(GDAL_PAM_ENABLED=False, GDAL_CACHEMAX=128 * 2**20),
        rasterio.open(path, "w", **form, **packing, **{key: value for key, value in where.items() if value}) as dataset,
    ):
        dataset.update_tags(TIFFTAG_SOFTWARE=SOFTWARE, **tags)
        if place.is_point and place.transform:  # GDAL moves control points by half a pixel there
            dataset.update_tags(AREA_OR_POINT="Point")
        for band, name in enumerate(names, start=1):
            dataset.set_band_description(band, name)
        if colours:
            dataset.write_colormap(1, dict(colours))
        for at, part in _parts(values):
            dataset.write(part, window=at)


def _parts(values: np.ndarray) -> Iterator[tuple[tuple, np.ndarray]]:
    """Rows of tiles, and where they lie."""
    height, width = values.shape[1:]
    for top in range(0, height, _SIDE):
        part = values[:, top : top + _SIDE]
        yield ((top, top + part.shape[1]), (0, width)), np.asarray(part)


def _is_ours(path: Path) -> bool:
    try:
        with opened_raster(path) as dataset:
            return dataset.tags().get("TIFFTAG_SOFTWARE") == SOFTWARE
    except DataError:
        return False
