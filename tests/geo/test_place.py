import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from PIL import Image
from rasterio import Affine
from rasterio.rio.main import main_group

from topolora_hf.data.errors import DataError
from topolora_hf.data.place import Place, read_place
from topolora_hf.geo.geotiff import write_geotiff

from .conftest import NORTH_UP, PLACES, ROTATED


@pytest.mark.parametrize("tags", [{}, {"AREA_OR_POINT": "Point"}], ids=["area", "point"])
@pytest.mark.parametrize("kind", PLACES)
def test_an_output_lies_where_its_image_lies(tmp_path, write_raster, scene, kind, tags):
    path = write_raster(tmp_path / "scene.tif", scene, tags, **PLACES[kind])
    place = read_place(path)
    write_geotiff(tmp_path / "out.tif", scene[0], place, nodata=7)
    with rasterio.open(path) as image, rasterio.open(tmp_path / "out.tif") as out:
        assert (out.bounds, out.crs, out.shape) == (image.bounds, image.crs, image.shape)
        assert out.transform == image.transform and out.nodata == 7
        assert [str(point) for point in out.gcps[0]] == [str(point) for point in image.gcps[0]]
        assert out.profile["tiled"] and out.profile["compress"] == "deflate"
        np.testing.assert_array_equal(out.read(1), scene[0])
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["out.tif", "scene.tif"]


def test_gdal_says_the_same(tmp_path, write_raster, scene):
    """`rio info` and, where it is there, `gdalinfo`."""
    path = write_raster(tmp_path / "scene.tif", scene, **PLACES["UTM"], nodata=0)
    write_geotiff(tmp_path / "out.tif", scene[0], read_place(path), nodata=255)
    runs = [CliRunner().invoke(main_group, ["info", str(tmp_path / name)]) for name in ("scene.tif", "out.tif")]
    found = [json.loads(run.stdout) for run in runs]
    for key in ("bounds", "transform", "crs", "shape", "lnglat"):
        assert found[0][key] == found[1][key]
    assert found[1]["nodata"] == 255 and found[1]["tiled"]
    if program := shutil.which("gdalinfo"):
        texts = [
            json.loads(subprocess.check_output([program, "-json", tmp_path / name]))
            for name in ("scene.tif", "out.tif")
        ]
        assert texts[0]["cornerCoordinates"] == texts[1]["cornerCoordinates"]


def test_what_lies_beside_a_file_places_it(tmp_path, write_raster, scene):
    """A world file and .aux.xml, as orthophotos have; without them there is no place."""
    write_raster(tmp_path / "photo.png", scene, driver="PNG", **PLACES["UTM"])
    assert (tmp_path / "photo.png.aux.xml").is_file()
    place = read_place(tmp_path / "photo.png")
    assert place.name == "EPSG:32633" and place.transform == NORTH_UP
    (tmp_path / "photo.png.aux.xml").unlink()
    assert read_place(tmp_path / "photo.png") is None
    (tmp_path / "photo.pgw").write_text("0.5\n0\n0\n-0.5\n500000.25\n4599999.75\n")
    place = read_place(tmp_path / "photo.png")
    assert place.crs is None and place.transform == NORTH_UP


def test_what_lies_nowhere_needs_no_rasterio(tmp_path, write_raster, scene, monkeypatch):
    """JPEG 2000, and a file whose .aux.xml has statistics alone, as a GIS leaves them; beside those with a place."""
    statistics = '<PAMDataset><PAMRasterBand band="1"><Metadata><MDI key="STATISTICS_MEAN">3</MDI></Metadata>'
    for name in ("photo.png", "photo.jp2"):
        Image.fromarray(np.moveaxis(scene, 0, 2)).save(tmp_path / name)
        (tmp_path / f"{name}.aux.xml").write_text(f"{statistics}</PAMRasterBand></PAMDataset>")
    placed = [
        write_raster(tmp_path / "map.jp2", scene, driver="JP2OpenJPEG", **PLACES["UTM"]),
        write_raster(tmp_path / "map.png", scene, driver="PNG", **PLACES["UTM"]),
    ]
    assert not (tmp_path / "map.jp2.aux.xml").exists()
    assert [read_place(path).transform for path in placed] == [NORTH_UP] * 2
    monkeypatch.setitem(sys.modules, "rasterio", None)
    assert read_place(tmp_path / "photo.png") is read_place(tmp_path / "photo.jp2") is None
    (tmp_path / "broken.jp2").write_bytes(b"\0\0\0\1abcd" + b"\xff" * 80)
    assert read_place(tmp_path / "broken.jp2") is None
    for path in placed:
        with pytest.raises(DataError, match=r"map\.(jp2|png): what lies on a map .* pip install"):
            read_place(path)


@pytest.mark.parametrize("transform", [NORTH_UP, ROTATED], ids=["north up", "rotated"])
def test_points_reach_the_map_at_the_centre_of_their_pixel(tmp_path, write_raster, scene, transform):
    path = write_raster(tmp_path / "scene.tif", scene, crs="EPSG:32633", transform=transform)
    place, points = read_place(path), np.array([(0, 0), (69, 89), (12, 34)])
    with rasterio.open(path) as dataset:
        expected = [dataset.xy(row, column) for row, column in points]
    np.testing.assert_allclose(place.map_points(points), expected, rtol=0, atol=1e-6)
    assert place.pixel_size() == pytest.approx(0.5)
    degrees = place.lonlat(points)  # 500 km east is the meridian of the zone
    assert degrees[0] == pytest.approx((15, 41.55), abs=0.01)


def test_pixels_have_a_size_in_metres_where_the_system_is_projected():
    crs = rasterio.CRS.from_epsg
    assert Place(crs(2263), Affine(1, 0, 0, 0, -1, 0)).pixel_size() == pytest.approx(0.3048006)
    assert Place(crs(4326), Affine(1e-5, 0, 0, 0, -1e-5, 0)).pixel_size() is None
    assert Place(None, NORTH_UP).pixel_size() is None
    with pytest.raises(DataError, match="pixels of 1 x 2 m; lengths need square"):
        Place(crs(32633), Affine(1, 0, 0, 0, -2, 0)).pixel_size()


def test_places_that_differ_are_told_apart():
    crs = rasterio.CRS.from_epsg
    place = Place(crs(32633), NORTH_UP)
    assert not place.differs(Place(crs(32633), NORTH_UP), 70, 90)
    assert not place.differs(Place(None, NORTH_UP), 70, 90)
    assert place.differs(Place(crs(32634), NORTH_UP), 70, 90) == "EPSG:32633 and EPSG:32634"
    shifted = Place(crs(32633), NORTH_UP @ Affine.translation(0.5, 0))
    assert place.differs(shifted, 70, 90) == "corners are 0.5 pixels apart"


def test_a_point_without_a_longitude_is_an_error():
    with pytest.raises(DataError, match="has no coordinate system"):
        Place(None, NORTH_UP).lonlat([(0, 0)])
    with pytest.raises(DataError, match="site grid cannot be transformed to WGS 84"):
        Place(rasterio.CRS.from_wkt('LOCAL_CS["site grid",UNIT["metre",1]]'), NORTH_UP).lonlat([(0, 0)])
    with pytest.raises(DataError, match="cannot be transformed to WGS 84"):
        Place(rasterio.CRS.from_string("+proj=ortho"), NORTH_UP).lonlat([(1e9, 1e9)])
    with pytest.raises(DataError, match="resample it first, as by gdalwarp"):
        Place(rasterio.CRS.from_epsg(4326)).map_points([(0, 0)])
