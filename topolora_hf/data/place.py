"""Where on the map an image lies, as GDAL reads it from the file and from what lies beside it (.tfw, .aux.xml, ...)."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import DataError

if TYPE_CHECKING:
    from rasterio import Affine, DatasetReader
    from rasterio.control import GroundControlPoint
    from rasterio.crs import CRS
    from rasterio.rpc import RPC

# Others (VRT, WMS, ...) open further files or the network.
_DRIVERS = ("GTiff", "COG", "PNG", "JPEG", "JP2OpenJPEG", "WEBP", "BMP")
_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2", ".webp", ".bmp")
_BESIDE = (".tfw", ".jgw", ".pgw", ".j2w", ".wld")  # what places a file that holds no place itself
# The same in .aux.xml, which may hold statistics alone.
_PLACING = (b"<GeoTransform", b"<SRS", b"<GCPList", b"<GeodataXform", b'domain="RPC"')
_TIFF = (".tif", ".tiff")
_GEO_TAGS = (33550, 33922, 34264, 34735, 50844)  # scale, tie points, transform, coordinate system, polynomials
# Of JPEG 2000: GeoJP2, and a world file.
_GEO_BOXES = tuple(map(bytes.fromhex, ("b14bf8bd083d4b43a5ae8cd7d5a6ce03", "96a9f1f1dc98402da7aed68e34451809")))
WGS_84 = "EPSG:4326"
_CACHE_BYTES = 128 * 2**20  # GDAL takes a twentieth of the memory if nothing is said
_SAME = 0.1  # of a pixel, between the corners of two images
_SQUARE = 0.01  # by which the sides of a square pixel may differ


@dataclass(frozen=True)
class Place:
    """Where on the map an image lies.

    Attributes:
        crs: The coordinate reference system; None: not known.
        transform: From (column, row), where whole numbers are the corners of pixels, to (x, y) in `crs`; None: the file
            has ground control points or rational polynomials instead, or only a system.
        gcps: Ground control points, in `crs`.
        rpcs: Rational polynomial coefficients.
        is_point: Whether the file says that its values are those of points (`AREA_OR_POINT`); the transform has the
            corners of pixels in both cases.
    """

    crs: "CRS | None" = None
    transform: "Affine | None" = None
    gcps: "tuple[GroundControlPoint, ...]" = ()
    rpcs: "RPC | None" = None
    is_point: bool = False

    def map_points(self, points: np.ndarray) -> np.ndarray:
        """Bring points, (N, 2) of (row, column) where whole numbers are the centres of pixels, to (x, y) in `crs`.

        Raises:
            DataError: There is no transform.
        """
        if self.transform is None:
            raise DataError(
                "has no transform from pixels to the map (ground control points or rational polynomials at most): "
                "resample it first, as by gdalwarp"
            )
        row, column = np.asarray(points, float).reshape(-1, 2).T + 0.5
        return np.stack(applied(self.transform, column, row), axis=1)

    def lonlat(self, points: np.ndarray) -> np.ndarray:
        """The same as degrees of longitude and latitude of WGS 84.

        Raises:
            DataError: There is no transform, or no coordinate system that can be transformed to WGS 84.
        """
        if self.crs is None:
            raise DataError("has no coordinate system, so nothing in it has a longitude and a latitude")
        return reproject(self.map_points(points), self.crs, WGS_84)

    @property
    def name(self) -> str:
        """What to call the coordinate system."""
        return crs_name(self.crs)

    def pixel_size(self) -> float | None:
        """The side of a pixel in metres; None where the system is not projected, or nothing says where pixels lie.

        Raises:
            DataError: Pixels are not square.
        """
        if self.transform is None or self.crs is None or not self.crs.is_projected:
            return None
        a, b, _, d, e, _ = tuple(self.transform)[:6]
        metres = self.crs.linear_units_factor[1]
        across, down = np.hypot(a, d) * metres, np.hypot(b, e) * metres
        skew = abs(a * b + d * e) * metres**2
        if abs(across - down) > _SQUARE * across or skew > _SQUARE * across * down:
            raise DataError(
                f"has pixels of {across:.6g} x {down:.6g} m{' that are no rectangles' * (skew > 1e-9)}; lengths need "
                "square ones: resample it, as by gdalwarp -tr"
            )
        return float(np.sqrt(across * down))

    def pixel_metres(self, height: int, width: int) -> tuple[float, float]:
        """How far neighbours in a row, and in a column, lie apart on the ground, in metres, in the middle of an image.

        Raises:
            DataError: Nothing says so.
        """
        middle = np.array([(height / 2, width / 2)])
        ((longitude, latitude),) = self.lonlat(middle)
        around = self.map_points(middle + [(0, 0), (0, 1), (1, 0)])
        local = f"+proj=aeqd +lat_0={latitude} +lon_0={longitude}"  # distances from the middle are true
        x, y = reproject(around, self.crs, local).T
        across, down = np.hypot(x[1:] - x[0], y[1:] - y[0])
        return float(across), float(down)

    def differs(self, other: "Place", height: int, width: int) -> str:
        """How an image of that size lies elsewhere than another, in words; empty if both lie at one place.

        What one of them does not say is not compared.
        """
        if self.crs and other.crs and self.crs != other.crs:
            return f"{self.name} and {other.name}"
        if self.transform and other.transform:
            corners = np.array([(-0.5, -0.5), (-0.5, width - 0.5), (height - 0.5, -0.5), (height - 0.5, width - 0.5)])
            column, row = applied(~self.transform, *other.map_points(corners).T)
            if (apart := np.abs(np.stack([row, column], axis=1) - 0.5 - corners).max()) > _SAME:
                return f"corners are {apart:.6g} pixels apart"
        mine, others = ([(p.row, p.col, p.x, p.y, p.z) for p in place.gcps] for place in (self, other))
        return "other control points" if mine and others and mine != others else ""


def applied(transform: "Affine", x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Transform points. Versions of affine differ in the operator that does it."""
    a, b, c, d, e, f = tuple(transform)[:6]
    return a * x + b * y + c, d * x + e * y + f


def crs_name(crs: "CRS | str | None") -> str:
    """What to call a coordinate system, as EPSG:32633 or, without such a number, the name that it has."""
    if crs is None:
        return "no coordinate system"
    text = crs if isinstance(crs, str) else crs.to_string()
    return text if text.startswith("EPSG:") else text.split('"')[1] if '"' in text else text


def reproject(xy: np.ndarray, crs: "CRS", to: "CRS | str") -> np.ndarray:
    """Bring points, (N, 2) of (x, y), from one coordinate system to another; DataError if one cannot be brought."""
    from rasterio.warp import transform

    problem = f"{crs_name(crs)} cannot be transformed to {'WGS 84' if to == WGS_84 else crs_name(to)}"
    try:
        found = np.reshape(np.transpose(transform(crs, to, *np.transpose(xy))[:2]), (-1, 2))
    except Exception as error:  # GDAL's own errors are of a private class
        raise DataError(f"{problem} ({str(error):.80})") from error
    if not np.isfinite(found).all():
        raise DataError(f"{problem} at every point")
    return found


def place_of(dataset: "DatasetReader") -> Place | None:
    """Read the place of an open file; None if nothing says where it lies."""
    transform = None if dataset.transform.is_identity else dataset.transform
    gcps, crs_of_gcps = dataset.gcps
    crs = dataset.crs or crs_of_gcps
    if transform is None and not crs and not gcps and dataset.rpcs is None:
        return None
    is_point = dataset.tags().get("AREA_OR_POINT") == "Point"
    return Place(crs or None, transform, tuple(gcps), dataset.rpcs, is_point)


def read_place(path: str | Path) -> Place | None:
    """Read where an image file lies; None if nothing says so, or the file is of a kind that has no place.

    Raises:
        DataError: It has a place and rasterio, which reads it, is not installed; or GDAL cannot open the file.
    """
    path = Path(path)
    if not _may_have_place(path):
        return None
    with opened_raster(path) as dataset:
        return place_of(dataset)


def apart_on_map(image: Path, mask: Path, height: int, width: int) -> str:
    """How an image and its mask lie apart, in words; empty if they do not, or one of them lies nowhere."""
    if not (_may_have_place(image) and _may_have_place(mask)):
        return ""
    places = read_place(image), read_place(mask)
    return places[0].differs(places[1], height, width) if all(places) else ""


def _may_have_place(path: Path) -> bool:
    """Whether a file has tags or a box of a place, or another beside it that places it; without rasterio."""
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        return False
    if (suffix in _TIFF and _has_geo_tags(path)) or (suffix == ".jp2" and _has_geo_box(path)):
        return True
    beside = (file for ending in _BESIDE for file in _named_after(path, ending))
    return any(file.is_file() for file in beside) or any(map(_is_placing, _named_after(path, ".aux.xml")))


def _named_after(path: Path, ending: str) -> tuple[Path, Path]:
    return path.with_suffix(ending), path.with_name(path.name + ending)


def _is_placing(aux_xml: Path) -> bool:
    if not aux_xml.is_file():
        return False
    content = aux_xml.read_bytes()
    return any(sign in content for sign in _PLACING)


def _has_geo_box(path: Path) -> bool:
    """Whether a JPEG 2000 file has a box with a place: GeoJP2, a world file, or GML."""
    start = 0
    try:
        with path.open("rb") as file:
            while len(head := file.read(8)) == 8:
                length, kind = int.from_bytes(head[:4], "big"), head[4:]
                if length == 1:
                    length = int.from_bytes(file.read(8), "big")
                content = file.read(64)
                if (kind == b"uuid" and content[:16] in _GEO_BOXES) or (kind == b"asoc" and b"gml.data" in content):
                    return True
                if length < 8:  # 0: to the end of the file
                    return False
                start += length
                file.seek(start)
    except (OSError, ValueError, OverflowError):  # what is wrong with it is said where it is decoded
        return False
    return False


def _has_geo_tags(path: Path) -> bool:
    import tifffile

    try:
        with tifffile.TiffFile(path) as tiff:
            return any(code in tiff.pages.first.tags for code in _GEO_TAGS)
    except (OSError, ValueError):  # no TIFF, whatever its name is
        return False


@contextmanager
def opened_raster(path: str | Path) -> Iterator["DatasetReader"]:
    """Open an image file with rasterio, and keep GDAL's cache small.

    Raises:
        DataError: rasterio is not installed, or GDAL cannot open the file.
    """
    try:
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
        from rasterio.io import DatasetReader
    except ImportError as error:
        raise DataError(
            f"{path}: what lies on a map or is too large for memory is read by rasterio: pip install "
            f"'topolora_hf[geo]' ({error})"
        ) from error
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    with rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES):
        try:
            dataset = DatasetReader(str(path), driver=list(_DRIVERS))
        except (RasterioIOError, UnicodeEncodeError) as error:
            if not Path(path).is_file():
                raise DataError(f"{path}: no such file") from error
            raise DataError(f"{path}: cannot be read as an image ({error})") from error
        with dataset:
            yield dataset
