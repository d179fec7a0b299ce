"""From a line on the map to a raster, a mask by rows, its graph, and a line on the map again."""

import json

import numpy as np
import pyogrio
import pytest
import shapely
from rasterio.features import rasterize
from rasterio.warp import transform

from topolora_hf.data.place import read_place
from topolora_hf.geo.raster import opened_by_rows
from topolora_hf.graphs.files import write_geojson, write_geopackage
from topolora_hf.graphs.graph import centreline_graph, graph_of_rows

from .conftest import NORTH_UP, PLACES, ROTATED

SIZE = (300, 400)
KINDS = {"north up": ("EPSG:32633", NORTH_UP, 0.5), "rotated": ("EPSG:32633", ROTATED, 0.5),
         "degrees": ("EPSG:4326", PLACES["degrees"]["transform"], 1.2)}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_known_line_comes_back_within_a_pixel(tmp_path, write_raster, kind):
    crs, place, metres = KINDS[kind]
    ends = np.array([(30.0, 40.0), (370.0, 220.0)])  # (column, row), corners of pixels
    a, b, c, d, e, f = tuple(place)[:6]
    pixels = rasterize([shapely.LineString(ends).buffer(3)], SIZE).astype(np.uint8)
    ends += 3 * np.diff(ends, axis=0) / np.linalg.norm(np.diff(ends, axis=0)) * [[-1], [1]]  # it is round at its ends
    known = shapely.LineString([(a * x + b * y + c, d * x + e * y + f) for x, y in ends])
    path = write_raster(tmp_path / "mask.tif", pixels[None] * np.uint8(255), crs=crs, transform=place)
    with opened_by_rows(path) as raster:
        graph = graph_of_rows(lambda top, bottom: raster.levels(top, bottom) == 255, *raster.size, rows=64)
    assert (graph.number_of_edges(), graph.number_of_nodes()) == (1, 2)
    write_geojson(graph, tmp_path / "graph.geojson", read_place(path))
    write_geopackage(graph, tmp_path / "graph.gpkg", read_place(path))
    meta, _, wkb, _ = pyogrio.raw.read(tmp_path / "graph.gpkg", layer="segments")
    assert meta["crs"] == crs
    found = shapely.from_wkb(wkb[0])
    pixel = np.sqrt(abs(a * e - b * d))
    assert found.hausdorff_distance(known) < pixel
    degrees = np.array(json.loads((tmp_path / "graph.geojson").read_text())["features"][0]["geometry"]["coordinates"])
    local = "+proj=aeqd +lat_0={1} +lon_0={0}".format(*degrees[0])
    there = [np.stack(transform(system, local, *np.array(line).T)[:2], axis=1)
             for system, line in (("EPSG:4326", degrees), (crs, known.coords))]  # fmt: skip
    assert shapely.LineString(there[0]).hausdorff_distance(shapely.LineString(there[1])) < metres


def test_the_graph_of_a_raster_by_rows_is_that_of_its_mask(tmp_path, write_raster):
    rng = np.random.default_rng(0)
    lines = [shapely.LineString(rng.uniform(0, 1, (3, 2)) * SIZE[::-1]).buffer(rng.uniform(1, 4)) for _ in range(12)]
    mask = rasterize(lines, SIZE).astype(bool)
    path = write_raster(tmp_path / "mask.tif", np.where(mask, 255, 0).astype(np.uint8)[None], tiled=True, blockxsize=32,
                        blockysize=32)  # fmt: skip
    whole = centreline_graph(mask)
    for rows in (50, 300):
        with opened_by_rows(path) as raster:
            graph = graph_of_rows(lambda top, bottom: raster.levels(top, bottom) == 255, *SIZE, rows=rows)  # noqa: B023
        assert dict(graph.nodes(data=True)) == dict(whole.nodes(data=True))
        for (*_, one), (*_, other) in zip(graph.edges(data=True), whole.edges(data=True), strict=True):
            np.testing.assert_array_equal(one["polyline"], other["polyline"])
            assert one["length"] == other["length"] and one["mean_width"] == other["mean_width"]
