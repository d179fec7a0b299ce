"""Lines and polygons of a GIS as masks of georeferenced images: burnt in by rasterio, in the user's cache."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..archives import cached_folder
from ..errors import DataError
from ..place import Place, applied, crs_name, opened_raster, place_of, reproject
from ..records import Layout, some

if TYPE_CHECKING:
    from shapely import Geometry

VECTOR_SUFFIXES = (".gpkg", ".geojson", ".shp", ".fgb")
_REMARK = "remark.txt"
_POINTS, _LINES, _POLYGONS = (0, 4), (1, 2, 5), (3, 6)  # numbers of shapely's types


def vector_file(folder: Path, layout: Layout) -> Path | None:
    """The file of lines or polygons that `mask_dir` names, in the folder or the one that it lies in; None: no such.

    Raises:
        DataError: There is none of that name; or a width or layer is given without one.
    """
    name = layout.mask_dir
    if name is None or not name.lower().endswith(VECTOR_SUFFIXES):
        if unused := [key for key in ("mask_layer", "line_width") if getattr(layout, key)]:
            kinds = ", ".join(VECTOR_SUFFIXES)
            raise DataError(f"{' and '.join(unused)}: of the file of lines or polygons ({kinds}) that mask_dir names")
        return None
    found = next((file for file in (folder / name, folder.parent / name) if file.is_file()), None)
    if found is None:
        raise DataError(f"mask_dir {name!r}: neither {folder} nor the folder that it lies in has such a file")
    return found


def burn_vectors(file: Path, images: Sequence[Path], layout: Layout) -> tuple[dict[Path, Path], str]:
    """Burn what a file holds into a mask for each image; a pixel is marked if its centre lies inside.

    Lines are as wide as `layout.line_width` says, and whole, however narrow.

    Returns:
        The mask of each image, and a sentence on what was burnt.

    Raises:
        DataError: pyogrio, shapely or rasterio is not installed; the file is broken or empty, or its layer is not named
            or absent; it holds points, or lines without a width; images or the file have no place, or none that can be
            brought together; or no image has any of it.
    """
    beside = sorted(file.parent.glob(f"{file.stem}.*"))  # a shapefile is several files
    key = [(path, path.stat().st_mtime_ns) for path in (*beside, *images)], layout.mask_layer, layout.line_width
    names = {image: f"{number}.png" for number, image in enumerate(images)}
    folder = cached_folder("vectors", file.stem, key, lambda folder: _fill(folder, file, names, layout))
    return {image: folder / name for image, name in names.items()}, (folder / _REMARK).read_text(encoding="utf-8")


def _fill(folder: Path, file: Path, names: dict[Path, str], layout: Layout) -> None:
    import shapely

    layer, crs = _opened(file, layout.mask_layer)
    placeless, empty, kinds = [], [], []
    for image, name in names.items():
        with opened_raster(image) as dataset:
            place, shape, bounds = place_of(dataset), dataset.shape, dataset.bounds
        if place is None or place.transform is None:
            placeless.append(image.name)
            continue
        if (place.crs is None) != (crs is None):
            without = file if crs is None else image
            raise DataError(
                f"{without} has no coordinate system (a missing .prj?), and {image if crs is None else file} has"
            )
        shapes = _in_pixels(_read(file, layer, _reach(place, bounds, crs, layout)), place, crs, file)
        mask = _burnt(shapes, shape, place, layout, file)
        kinds += shapely.get_type_id(shapes).tolist()
        empty += [image.name] * (not mask.any())
        Image.fromarray(mask * np.uint8(255)).save(folder / name)
    if placeless:
        raise DataError(
            f"{len(placeless)} images have no place on the map, so {file.name} has none in them: {some(placeless)}"
        )
    if len(empty) == len(names):
        raise DataError(f"{file} lies outside of all {len(names)} images: {some(empty)}")
    lines = sum(kind in _LINES for kind in kinds)
    if layout.line_width and not lines:
        raise DataError(f"{file}: holds polygons and no lines, so line_width {layout.line_width} is of no use")
    text = f"masks are burnt from {file.name}: {lines} lines and {len(kinds) - lines} polygons in {len(names)} images"
    text += f", none in {len(empty)}: {some(empty)}" if empty else ""
    (folder / _REMARK).write_text(text, encoding="utf-8")


def _opened(file: Path, wanted: str | None):
    """The layer, and its coordinate system."""
    try:
        import pyogrio
        from rasterio.crs import CRS
    except ImportError as error:
        raise DataError(f"{file}: lines and polygons need pip install 'topolora_hf[geo]' ({error})") from error
    try:
        layers = [str(name) for name, _ in pyogrio.list_layers(file)]
    except Exception as error:
        raise DataError(f"{file}: cannot be read as lines or polygons ({error})") from error
    if wanted is None and len(layers) > 1 or wanted is not None and wanted not in layers:
        problem = f"has no layer {wanted!r}" if wanted else f"has {len(layers)} layers"
        raise DataError(f"{file}: {problem}; --layout mask_layer=NAME says which: {some(layers, 8)}")
    layer = wanted or next(iter(layers), None)
    found = pyogrio.read_info(file, layer=layer, force_feature_count=True) if layer else {"features": 0}
    if not found["features"]:
        raise DataError(f"{file}: holds no line or polygon" + (f" in layer {layer!r}" if layer else ""))
    return layer, CRS.from_user_input(found["crs"]) if found["crs"] else None


def _reach(place: Place, bounds, crs, layout: Layout) -> tuple[float, float, float, float]:
    """What to read of a layer for an image, in the layer's coordinates: the image and a tenth around it."""
    from rasterio.warp import transform_bounds

    left, right = sorted((bounds.left, bounds.right))
    bottom, top = sorted((bounds.bottom, bounds.top))
    across, down = (right - left) / 10, (top - bottom) / 10
    around = left - across, bottom - down, right + across, top + down
    if crs is None or crs == place.crs:
        return around
    try:
        return transform_bounds(place.crs, crs, *around)
    except Exception as error:  # GDAL's own errors are of a private class
        raise DataError(f"{place.name} cannot be transformed to {crs_name(crs)} ({str(error):.80})") from error


def _read(file: Path, layer: str | None, bbox: tuple[float, ...]) -> "np.ndarray[Geometry]":
    import pyogrio
    import shapely

    _, _, wkb, _ = pyogrio.raw.read(file, layer=layer, bbox=bbox, columns=[])
    shapes = shapely.get_parts(shapely.get_parts(shapely.force_2d(shapely.from_wkb([each for each in wkb if each]))))
    return shapes[~shapely.is_empty(shapes)]


def _in_pixels(shapes: np.ndarray, place: Place, crs, file: Path) -> np.ndarray:
    """Geometries in (column, row) of an image, where whole numbers are corners of pixels."""
    import shapely

    def to_pixels(xy: np.ndarray) -> np.ndarray:
        xy = xy if crs is None or crs == place.crs else reproject(xy, crs, place.crs)
        return np.stack(applied(~place.transform, *xy.T), axis=1)

    try:
        return shapely.transform(shapes, to_pixels)
    except DataError as error:
        raise DataError(f"{file}: {error}") from error


def _burnt(shapes: np.ndarray, size: tuple[int, int], place: Place, layout: Layout, file: Path) -> np.ndarray:
    """uint8 (H, W) of 0 and 1."""
    import shapely
    from rasterio.features import rasterize

    kinds = shapely.get_type_id(shapes)
    if np.isin(kinds, _POINTS).any():
        raise DataError(f"{file}: holds points, which have no extent; lines and polygons are burnt")
    lines, polygons = (shapes[np.isin(kinds, own)] for own in (_LINES, _POLYGONS))
    if len(lines) and layout.line_width is None:
        raise DataError(
            f"{file}: holds lines, and how wide their structures are is not known: --layout line_width=6m (on the "
            "ground) or line_width=3px (of an image)"
        )
    if len(lines):
        width, unit = layout.width_and_unit
        side = np.array(place.pixel_metres(*size) if unit == "m" else (1.0, 1.0))  # across, down
        wide = shapely.buffer(shapely.transform(lines, lambda xy: xy * side), width / 2, cap_style="flat")
        polygons = np.concatenate([polygons, shapely.transform(wide, lambda xy: xy / side)])
    all_shapes = [*polygons[~shapely.is_empty(polygons)], *lines]  # of a line itself no pixel is missed
    return rasterize(all_shapes, size, dtype=np.uint8) if all_shapes else np.zeros(size, np.uint8)
