import json

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.warp import transform

from topolora_hf.data.errors import DataError
from topolora_hf.data.place import Place
from topolora_hf.geo.features import write_features

from .conftest import NORTH_UP, ROTATED

UTM = rasterio.CRS.from_epsg(32633)
LINES = [np.array([(0, 0), (3.5, 7), (10, 7)]), np.array([(5, 5), (6, 6)])]
COLUMNS = {"length": [14.3, 1.4], "name": ["a", "b"]}


@pytest.mark.parametrize("transform_of", [NORTH_UP, ROTATED], ids=["north up", "rotated"])
def test_a_line_lies_where_its_pixels_lie(tmp_path, transform_of):
    place = Place(UTM, transform_of)
    write_features(tmp_path / "graph.geojson", {"segments": (LINES, COLUMNS)}, place)
    write_features(tmp_path / "graph.gpkg", {"segments": (LINES, COLUMNS), "nodes": (LINES[1][:, None], {})}, place)
    a, b, c, d, e, f = tuple(transform_of)[:6]
    centres = LINES[0] + 0.5
    expected = [(a * column + b * row + c, d * column + e * row + f) for row, column in centres]
    content = json.loads((tmp_path / "graph.geojson").read_text())
    assert "crs" not in content and content["features"][0]["properties"] == {"length": 14.3, "name": "a"}
    found = np.array(content["features"][0]["geometry"]["coordinates"])
    x, y = transform("EPSG:4326", UTM, *found.T)
    np.testing.assert_allclose(np.stack([x, y], axis=1), expected, rtol=0, atol=0.02)  # a pixel is 0.5 m
    assert pyogrio.list_layers(tmp_path / "graph.gpkg")[:, 0].tolist() == ["segments", "nodes"]
    meta, _, wkb, _ = pyogrio.raw.read(tmp_path / "graph.gpkg", layer="segments")
    assert meta["crs"] == "EPSG:32633"
    np.testing.assert_allclose(shapely.get_coordinates(shapely.from_wkb(wkb[0])), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_no_line_is_an_empty_but_valid_file(tmp_path, suffix):
    write_features(tmp_path / f"graph{suffix}", {"segments": ([], {"length": np.zeros(0)})}, Place(UTM, NORTH_UP))
    assert pyogrio.read_info(tmp_path / f"graph{suffix}", force_feature_count=True)["features"] == 0
    assert len(list(tmp_path.iterdir())) == 1


def test_without_a_place_a_geopackage_has_pixels(tmp_path):
    write_features(tmp_path / "graph.gpkg", {"segments": (LINES, COLUMNS)}, None)
    meta, _, wkb, _ = pyogrio.raw.read(tmp_path / "graph.gpkg")
    assert meta["crs"] is None or "Undefined" in meta["crs"]
    assert shapely.get_coordinates(shapely.from_wkb(wkb[0])).tolist() == [[0, 0], [7, -3.5], [7, -10]]


def test_what_cannot_be_written_is_a_named_error(tmp_path):
    layer = {"segments": (LINES, COLUMNS)}
    for place, message in (
        (None, "no place on the map"),
        (Place(None, NORTH_UP), "has no coordinate system"),
        (Place(rasterio.CRS.from_wkt('LOCAL_CS["site grid",UNIT["metre",1]]'), NORTH_UP), "site grid cannot be"),
        (Place(UTM), "resample it first"),
    ):
        with pytest.raises(DataError, match=message):
            write_features(tmp_path / "graph.geojson", layer, place)
    with pytest.raises(DataError, match="graph.geojson: expected .gpkg, or .geojson for one layer; got 2 layers"):
        write_features(tmp_path / "graph.geojson", {**layer, "nodes": ([], {})}, Place(UTM, NORTH_UP))
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError, match="graph.gpkg"):
        write_features(tmp_path / "absent" / "graph.gpkg", layer, Place(UTM, NORTH_UP))
