"""Lines and points of an image as features of a GIS: GeoJSON in WGS 84, GeoPackage in the image's own system."""

import errno
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..data.errors import DataError
from ..data.place import Place
from ..files import whole_file

DRIVERS = {".geojson": "GeoJSON", ".gpkg": "GPKG"}
Layer = tuple[Sequence[np.ndarray], Mapping[str, Sequence]]
"""Geometries, and the values of each in columns."""


def write_features(path: str | Path, layers: Mapping[str, Layer], place: Place | None) -> None:
    """Write layers of lines or points, whole or not at all.

    Args:
        path: `.geojson`, for one layer: longitudes and latitudes (RFC 7946). `.gpkg`: coordinates of the image's
            system; without a place columns and rows of pixels, the rows as negative numbers, so that up is up.
        layers: By name. A geometry is float (N, 2), rows and columns where whole numbers are the centres of pixels: a
            line, or with N = 1 a point. A column is of numbers or of texts.
        place: That of the image.

    Raises:
        DataError: pyogrio is not installed; a GeoJSON has several layers, or its image no place that can be
            transformed to WGS 84.
        OSError: The file cannot be written.
    """
    path = Path(path)
    try:
        import pyogrio
    except ImportError as error:
        raise DataError(f"{path}: lines are written by pyogrio: pip install 'topolora_hf[geo]' ({error})") from error
    driver = DRIVERS.get(path.suffix.lower())
    if driver is None or (driver == "GeoJSON" and len(layers) != 1):
        raise DataError(f"{path}: expected .gpkg, or .geojson for one layer; got {len(layers)} layers")
    if driver == "GeoJSON" and place is None:
        raise DataError(f"{path}: its image has no place on the map, and GeoJSON is of longitudes and latitudes")
    made = {name: _shapes(geometries, place, driver) for name, (geometries, _) in layers.items()}
    with whole_file(path) as temporary:
        work = temporary.with_name(temporary.name + path.suffix)  # by which GDAL knows its own
        try:
            for number, (name, (_, columns)) in enumerate(layers.items()):
                _write(work, name, made[name], columns, driver, _system(place, driver), is_further=number > 0)
            counts = [pyogrio.read_info(work, layer=name, force_feature_count=True)["features"] for name in made]
            if counts != [len(shapes) for shapes in made.values()]:  # GDAL loses errors of a full disk
                raise OSError(errno.EIO, "what is read again is not what was written; the disk may be full")
            os.replace(work, temporary)
        except pyogrio.errors.DataSourceError as error:
            raise OSError(errno.EIO, f"GDAL cannot write it: {error}") from error
        finally:
            work.unlink(missing_ok=True)


def _shapes(geometries: Sequence[np.ndarray], place: Place | None, driver: str) -> list:
    import shapely

    mapped = [_on_map(np.asarray(points, float).reshape(-1, 2), place, driver) for points in geometries]
    return [shapely.LineString(each) if len(each) > 1 else shapely.Point(each[0]) for each in mapped]


def _write(path: Path, name: str, shapes: list, columns: Mapping, driver: str, crs: str | None, is_further: bool):
    import pyogrio
    import shapely

    kinds = {shape.geom_type for shape in shapes} or {"LineString"}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="'crs' was not provided")
        pyogrio.raw.write(
            path, shapely.to_wkb(np.array(shapes, object)), [_column(values) for values in columns.values()],
            list(columns), driver=driver, layer=name, geometry_type="Unknown" if len(kinds) > 1 else kinds.pop(),
            append=is_further, crs=crs, **({"RFC7946": "YES"} if driver == "GeoJSON" else {}),
        )  # fmt: skip


def _on_map(points: np.ndarray, place: Place | None, driver: str) -> np.ndarray:
    if place is None:
        return points[:, ::-1] * (1, -1)
    return place.lonlat(points) if driver == "GeoJSON" else place.map_points(points)


def _system(place: Place | None, driver: str) -> str | None:
    if driver == "GeoJSON":
        return "EPSG:4326"
    return place.crs.to_wkt() if place and place.crs else None


def _column(values: Sequence) -> np.ndarray:
    values = np.asarray(values)
    return values.astype(object) if values.dtype.kind not in "iufb" else values
