"""Lines and polygons of a GIS as masks, and pairs of GeoTIFFs."""

import math

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio import Affine
from rasterio.warp import transform

from topolora_hf.data.errors import DataError
from topolora_hf.data.loading import load_segmentation_data
from topolora_hf.data.records import Layout

HEIGHT, WIDTH = 60, 80
NORTH_UP = Affine(0.5, 0, 5e5, 0, -0.5, 4.6e6)
ROTATED = Affine.translation(5e5, 4.6e6) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5)
DEGREES = Affine(1e-5, 0, 15.0, 0, -8e-6, 41.5)
ENDS = np.array([(10.3, 8.7), (70.2, 47.9)])  # (column, row) of a line, in corners of pixels


def raster(path, place=NORTH_UP, crs="EPSG:32633", seed=0, bands=3, hole=False, driver="GTiff"):
    path.parent.mkdir(exist_ok=True)
    values = np.random.default_rng(seed).integers(1, 255, (bands, HEIGHT, WIDTH), dtype=np.uint8)
    values[:, :10] *= not hole
    form = {"height": HEIGHT, "width": WIDTH, "dtype": "uint8", "count": bands, "crs": crs, "transform": place}
    with rasterio.open(path, "w", driver=driver, nodata=0, **form) as dataset:
        dataset.write(values)
    return path


def vectors(path, shapes, crs="EPSG:32633", layer=None, kind="Unknown"):
    wkb = np.array([shapely.to_wkb(shape) for shape in shapes], object)
    pyogrio.raw.write(path, wkb, [], [], crs=crs, geometry_type=kind, layer=layer, append=path.exists())
    return path


def on_map(points, place=NORTH_UP):
    return [(place.a * x + place.b * y + place.c, place.d * x + place.e * y + place.f) for x, y in points]


def line(place=NORTH_UP, ends=ENDS):
    return shapely.LineString(on_map(ends, place))


def near_line(half_width, across=1.0, down=1.0):
    """Which centres of pixels lie that near to the line, beside it, by hand: pixels are so far apart."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    start, end = ENDS * (across, down)
    along = (end - start) / math.dist(start, end)
    x, y = columns * across - start[0], rows * down - start[1]
    forth, aside = x * along[0] + y * along[1], np.abs(x * along[1] - y * along[0])
    return (aside <= half_width) & (forth >= 0) & (forth <= math.dist(start, end))


def masks(root, **layout):
    data = load_segmentation_data(str(root), layout=Layout(**layout), validation_fraction=0)
    return {row["id"]: row["mask"][0] for split in data.values() for row in split}, data


@pytest.fixture
def root(tmp_path):
    for number in range(3):
        raster(tmp_path / "images" / f"{number}.tif", NORTH_UP @ Affine.translation(number * WIDTH, 0), seed=number)
    return tmp_path


def test_one_class_may_be_named(root):
    file = vectors(root / "roads.gpkg", [line()])
    layout = Layout(mask_dir=file.name, line_width="6px")
    data = load_segmentation_data(str(root), layout=layout, classes=["road"])
    assert data.labels == ("road",)
    with pytest.raises(DataError, match="roads.gpkg gives one class"):
        load_segmentation_data(str(root), layout=layout, classes=["road", "river"])


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".shp", ".fgb"])
def test_a_line_is_as_wide_as_it_is_said_to_be(root, suffix):
    crs, shape = ("EPSG:4326", line()) if suffix == ".geojson" else ("EPSG:32633", line())
    if crs == "EPSG:4326":
        shape = shapely.transform(shape, lambda xy: np.stack(transform("EPSG:32633", crs, *xy.T)[:2], axis=1))
    vectors(root / f"roads{suffix}", [shape], crs, kind="LineString")
    found, data = masks(root, mask_dir=f"roads{suffix}", line_width="6px")
    assert (found["0"] != near_line(3)).mean() < 1e-3 and found["0"].sum() > 300
    assert not found["1"].any() and not found["2"].any()
    assert any("1 lines and 0 polygons in 3 images, none in 2: 1.tif, 2.tif" in remark for remark in data.remarks)


@pytest.mark.parametrize(
    ("place", "crs", "metres"),
    [
        (NORTH_UP, "EPSG:32633", (0.5, 0.5)),
        (ROTATED, "EPSG:32633", (0.5, 0.5)),
        (DEGREES, "EPSG:4326", (0.8349, 0.8886)),  # of arcs at 41.5 degrees north on WGS 84
        (Affine(1, 0, 1.6e6, 0, -1, 8.4e6), "EPSG:3857", (0.5016, 0.4994)),  # at 60 degrees all is twice as long
    ],
    ids=["UTM", "rotated", "degrees", "web Mercator"],
)
def test_metres_are_those_on_the_ground(tmp_path, place, crs, metres):
    raster(tmp_path / "images" / "0.tif", place, crs)
    vectors(tmp_path / "roads.gpkg", [line(place)], crs)
    data = masks(tmp_path, mask_dir="roads.gpkg", line_width="4m")[0]["0"]
    assert (data != near_line(2, *metres)).mean() < 5e-3


def test_a_narrow_line_is_whole_and_polygons_are_filled(root):
    hole = shapely.Polygon(
        on_map([(90, 5), (110, 5), (110, 25), (90, 25)]), [on_map([(95, 10), (105, 10), (105, 20), (95, 20)])]
    )
    vectors(root / "roads.gpkg", [line(), shapely.MultiPolygon([hole])])
    found, _ = masks(root, mask_dir="roads.gpkg", line_width="0.1m")
    from scipy.ndimage import label

    assert label(found["0"], np.ones((3, 3)))[1] == 1 and found["0"].sum() >= 60
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[5:25, 10:30], expected[10:20, 15:25] = 1, 0
    np.testing.assert_array_equal(found["1"], expected)


def test_splits_share_one_file_and_layers_have_names(tmp_path):
    for number, split in enumerate(("train", "test")):
        (tmp_path / split).mkdir()
        raster(tmp_path / split / "images" / f"{split}.tif", seed=number)
    vectors(tmp_path / "map.gpkg", [line()], layer="roads")
    vectors(tmp_path / "map.gpkg", [line().buffer(9)], layer="fields")
    with pytest.raises(DataError, match="has 2 layers; --layout mask_layer=NAME says which: roads, fields"):
        masks(tmp_path, mask_dir="map.gpkg", line_width="6px")
    with pytest.raises(DataError, match="has no layer 'rails'; .*roads, fields"):
        masks(tmp_path, mask_dir="map.gpkg", line_width="6px", mask_layer="rails")
    found, _ = masks(tmp_path, mask_dir="map.gpkg", line_width="6px", mask_layer="roads")
    assert (found["train"] == found["test"]).all() and (found["train"] != near_line(3)).mean() < 1e-3


UNPLACED = {"place": Affine.identity(), "crs": None}
PIXELS, METRES = {"line_width": "6px"}, {"line_width": "6m"}
SITE = 'LOCAL_CS["site grid",UNIT["metre",1]]'
FAULTS = {
    "lines without a width": ([line()], {}, {}, "holds lines, and how wide .*line_width=6m.*line_width=3px"),
    "a width without a unit": ([line()], {}, {"line_width": "6"}, "line_width must be a width with its unit.*'6'"),
    "no width at all": ([line()], {}, {"line_width": "0px"}, "line_width must be a width with its unit.*'0px'"),
    "a width of polygons": ([line().buffer(3)], {}, {"line_width": "6m"}, "no lines, so line_width 6m is of no use"),
    "points": ([shapely.Point(*on_map([(5, 5)])[0])], {}, {}, "holds points, which have no extent"),
    "outside of the images": ([shapely.LineString([(0, 0), (9, 9)])], {}, PIXELS, "lies outside of all 1 images"),
    "no feature": ([], {}, {}, "holds no line or polygon in layer 'roads'"),
    "no coordinate system": ([line()], {"vector": None}, {"line_width": "6px"}, "roads.gpkg has no coordinate system"),
    "an image without one": ([line()], {"crs": None}, {"line_width": "6px"}, "0.tif has no coordinate system"),
    "images without a place": ([line()], UNPLACED, {"line_width": "6px"}, "1 images have no place on the map.*0.tif"),
    "systems that do not meet": ([line()], {"crs": SITE}, PIXELS, "site grid cannot be transformed to EPSG:32633"),
    "metres of an unknown system": ([line()], {"crs": SITE, "vector": SITE}, METRES, "site grid cannot be transformed"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_burnt_is_a_named_error(tmp_path, fault):
    shapes, options, layout, message = FAULTS[fault]
    options = dict(options)
    crs = options.pop("vector", "EPSG:32633")
    raster(tmp_path / "images" / "0.tif", **options)
    vectors(tmp_path / "roads.gpkg", shapes, crs, kind="LineString" if not shapes else "Unknown")
    with pytest.raises(DataError, match=message):
        masks(tmp_path, mask_dir="roads.gpkg", **layout)


def test_files_that_are_no_vectors_are_named_errors(root):
    (root / "roads.gpkg").write_text("no file of a GIS")
    with pytest.raises(DataError, match="roads.gpkg: cannot be read as lines or polygons"):
        masks(root, mask_dir="roads.gpkg")
    with pytest.raises(DataError, match="mask_dir 'absent.shp': neither"):
        masks(root, mask_dir="absent.shp")
    with pytest.raises(DataError, match="line_width: of the file of lines or polygons"):
        masks(root, mask_dir="images", line_width="6px")
    vectors(root / "lines.shp", [line()], kind="LineString")
    (root / "lines.prj").unlink()
    with pytest.raises(DataError, match=r"lines.shp has no coordinate system \(a missing .prj\?\), and .*0.tif has"):
        masks(root, mask_dir="lines.shp", line_width="6px")


def test_pixels_without_data_are_not_trained_on(tmp_path):
    raster(tmp_path / "images" / "0.tif", hole=True)
    raster(tmp_path / "masks" / "0.tif", bands=1)
    mask = np.where(near_line(3), 255, 0).astype(np.uint8)
    with rasterio.open(tmp_path / "masks" / "0.tif", "r+") as dataset:
        dataset.write(mask, 1)
    (row,) = next(iter(load_segmentation_data(str(tmp_path), validation_fraction=0).values()))
    assert not row["valid_mask"][:10].any() and row["valid_mask"][10:].all()
    np.testing.assert_array_equal(row["mask"][0], mask > 0)


@pytest.mark.parametrize(
    ("place", "crs", "message"),
    [
        (NORTH_UP @ Affine.translation(0.5, 0.5), "EPSG:32633", "corners are 0.5 pixels apart"),
        (NORTH_UP, "EPSG:32634", "EPSG:32633 and EPSG:32634"),
        (NORTH_UP @ Affine.scale(2), "EPSG:32633", "corners are 80 pixels apart"),
    ],
    ids=["shifted", "another system", "another pixel size"],
)
def test_a_mask_at_another_place_than_its_image_is_a_named_error(tmp_path, place, crs, message):
    for number in range(2):
        raster(tmp_path / "images" / f"{number}.tif", seed=number)
        raster(tmp_path / "masks" / f"{number}.tif", *((place, crs) if number else ()), bands=1, seed=number)
    with pytest.raises(
        DataError, match=f"image and mask lie at different places of the map .1.: images/1.tif.*{message}"
    ):
        load_segmentation_data(str(tmp_path))
