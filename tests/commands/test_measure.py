"""`topolora measure`: files of masks and of an adapter's images, gone on with, and what it refuses."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import networkx
import numpy as np
import pytest
from PIL import Image

from topolora_hf.graphs import centreline_graph, graph_totals
from topolora_hf.inference.prediction import Prediction
from topolora_hf.synthetic import draw_synthetic

FILES = ("_segments.csv", "_graph.graphml", "_graph.geojson", ".swc", "_graph.png", "_histogram.png")


@pytest.fixture
def masks(tmp_path):
    """A folder of masks: vessels, nothing, everything, one pixel, a line of one pixel's height."""
    folder = tmp_path / "masks"
    folder.mkdir()
    vessels = draw_synthetic(0, size=128, kinds=["vessels"])["mask"][0] == 1
    pixel, row = np.zeros((9, 9), bool), np.zeros((1, 50), bool)
    pixel[4, 4], row[0, 5:45] = True, True
    all_of = {"vessels": vessels, "nothing": np.zeros((20, 30), bool), "all": np.ones((40, 60), bool), "pixel": pixel}
    for name, mask in (all_of | {"row": row}).items():
        Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(folder / f"{name}.png")
    return folder


def rows_of(path="measures/totals.csv"):
    with open(path, newline="", encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def swc_lines(path):
    return [list(map(float, line.split())) for line in Path(path).read_text().splitlines() if line[0] != "#"]


def test_masks_are_measured(topolora, masks):
    done = topolora("measure", "--masks", masks, "--pixel_size", 0.5, "--unit", "mm", "--no_pictures")
    assert done.status == 0, done.err
    rows = rows_of()
    assert set(rows) == {"vessels", "nothing", "all", "pixel", "row"}
    mask = np.asarray(Image.open(masks / "vessels.png")) == 255
    graph = centreline_graph(mask)
    expected = graph_totals(graph)
    vessels = rows["vessels"]
    assert float(vessels["length"]) == pytest.approx(expected["length"] / 2)
    assert float(vessels["density"]) == pytest.approx(expected["density"] * 2)
    assert int(vessels["segments"]) == expected["segments"] > 5
    assert (vessels["unit"], vessels["pixel_size"]) == ("mm", "0.5")
    assert float(rows["row"]["length"]) == pytest.approx(20) and float(rows["row"]["mean_width"]) == pytest.approx(0.5)
    for name in rows:
        assert all(Path(f"measures/{name}{ending}").stat().st_size for ending in FILES[:-2])
        stored = networkx.read_graphml(f"measures/{name}_graph.graphml", force_multigraph=True)
        features = json.loads(Path(f"measures/{name}_graph.geojson").read_text())["features"]
        segments = list(csv.DictReader(open(f"measures/{name}_segments.csv", newline="")))
        lines = [each for each in features if each["geometry"]["type"] == "LineString"]
        assert len(segments) == len(lines) == stored.number_of_edges() == int(rows[name]["segments"])
        assert len(features) - len(lines) == stored.number_of_nodes()
        for segment, each in zip(segments, lines, strict=True):
            length = np.hypot(*np.diff(each["geometry"]["coordinates"], axis=0).T).sum() / 2
            assert length == pytest.approx(float(segment["length"]), rel=1e-3)
        swc = swc_lines(f"measures/{name}.swc")
        assert all(parent < number for number, *_, parent in swc)
        assert sum(parent == -1 for *_, parent in swc) == networkx.number_connected_components(stored.to_undirected())
    assert rows["nothing"]["length"] == "0.0" and rows["nothing"]["mean_width"] == ""


def test_pictures_are_drawn_also_of_nothing(topolora, masks):
    names = ("vessels", "nothing", "pixel")
    assert topolora("measure", "--masks", *(masks / f"{name}.png" for name in names)).status == 0
    for name in names:
        assert all(Path(f"measures/{name}{ending}").stat().st_size for ending in FILES)


def test_the_same_command_goes_on_and_another_is_refused(topolora, masks):
    words = ("measure", "--masks", masks, "--no_pictures")
    (masks / "broken.png").write_bytes(b"no image")
    stopped = topolora(*words)
    assert stopped.status == 1 and "1 images were not measured" in stopped.err and "broken.png" in stopped.err
    assert len(rows_of()) == 5
    first = Path("measures/vessels.swc").stat().st_mtime_ns
    (masks / "broken.png").unlink()
    again = topolora(*words)
    assert again.status == 0 and "5 of 5 images are in" in again.out
    assert Path("measures/vessels.swc").stat().st_mtime_ns == first and len(rows_of()) == 5
    refused = topolora(*words, "--no_prune")
    assert refused.status == 1 and "prune was True, is False" in refused.err
    made = topolora(*words, "--no_prune", "--overwrite")
    assert made.status == 0 and Path("measures/vessels.swc").stat().st_mtime_ns > first
    assert not Path("measures/vessels_graph.png").exists()


def test_how_a_mask_was_read_is_said_where_it_may_be_wrong(topolora, masks):
    only, line = masks / "row.png", np.full((9, 50), 255, np.uint8)
    line[4, 5:45] = 0
    Image.fromarray(line).save(only)
    done = topolora("measure", "--masks", only, "--no_pictures")
    assert done.status == 0 and "row.png: more of it is structure than background. If its structure is dark" in done.err
    done = topolora("measure", "--masks", only, "--no_pictures", "--invert_masks", "--overwrite")
    assert done.status == 0 and "warning" not in done.err and float(rows_of()["row"]["length"]) == pytest.approx(40)
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None], 40, 0)
    Image.fromarray(grey).save(masks / "pixel.png")
    done = topolora("measure", "--masks", masks / "pixel.png", "--no_pictures", "--mask_values", "200-255",
                    "--output_dir", "some")  # fmt: skip
    assert "values that --mask_values does not name are background: 1, 2, 3 and" in done.err
    done = topolora("measure", "--masks", masks / "pixel.png", "--no_pictures", "--output_dir", "soft")
    assert "it is not binary; from half of the range on is structure" in done.err


def test_the_density_of_a_mask_of_ours_is_of_its_field_of_view(topolora, tmp_path):
    probabilities, inside = np.zeros((1, 60, 60), np.float32), np.zeros((60, 60), bool)
    probabilities[:, 20, 5:45], inside[:30] = 1, True
    prediction = Prediction(np.zeros((60, 60, 3), np.uint8), probabilities, (0.5,), inside=inside)
    prediction.save_mask(tmp_path / "a_mask.png")
    assert topolora("measure", "--masks", tmp_path / "a_mask.png", "--no_pictures").status == 0
    assert float(rows_of()["a"]["density"]) == pytest.approx(prediction.totals["foreground"]["density"])


def test_measures_of_another_mask_of_the_same_name_are_refused(topolora, masks):
    words = ("measure", "--no_pictures", "--masks")
    assert topolora(*words, masks / "row.png").status == 0
    first = rows_of()
    (masks / "vessels.png").replace(masks / "row.png")
    done = topolora(*words, masks / "row.png")
    assert done.status == 1 and "results called row already, of " in done.err and "row.png as it was before" in done.err
    assert rows_of() == first and topolora(*words, masks / "row.png", "--overwrite").status == 0
    assert rows_of() != first


def test_classes_have_rows_and_files_of_their_own_name(topolora, tmp_path):
    folder = tmp_path / "maps"
    folder.mkdir()
    labels = np.zeros((60, 90), np.uint8)
    labels[20:23, 5:85], labels[5:55, 40:45] = 1, 2
    labels[50:, :10] = 9
    Image.fromarray(labels).save(folder / "a.png")
    (folder / "classes.json").write_text('{"artery": [1], "vein": [2]}')
    done = topolora("measure", "--masks", folder, "--ignore", 9, "--no_pictures")
    assert done.status == 0 and "classes are those of" in done.out, done.err
    with open("measures/totals.csv", newline="") as file:
        rows = {row["class"]: row for row in csv.DictReader(file)}
    assert float(rows["vein"]["length"]) == pytest.approx(50, rel=0.03)
    assert float(rows["artery"]["length"]) == pytest.approx(75, rel=0.05)  # the vein lies over it
    assert float(rows["vein"]["density"]) == pytest.approx(float(rows["vein"]["length"]) / (60 * 90 - 100))
    classes = [row["class"] for row in csv.DictReader(open("measures/a_segments.csv", newline=""))]
    assert sorted(classes) == ["artery", "artery", "vein"]
    pieces = [sum(parent == -1 for *_, parent in swc_lines(f"measures/a_{name}.swc")) for name in ("artery", "vein")]
    assert pieces == [2, 1] and not Path("measures/a.swc").exists()
    again = topolora("measure", "--masks", folder, "--classes", "artery=1", "--overwrite", "--no_pictures")
    assert again.status == 1 and "values that are of no class: 2 (" in again.err
    assert not list(Path("measures").glob("*.swc"))


def test_images_are_segmented_by_an_adapter(topolora, tmp_path, monkeypatch):
    image = draw_synthetic(3, size=96, kinds=["vessels"])["image"]
    Image.fromarray(image).save(tmp_path / "photograph.png")
    words = ("--images", tmp_path / "photograph.png", "--adapter", "tiny", "--threshold", 0.3)
    done = topolora("measure", *words, "--no_pictures")
    assert done.status == 0, done.err
    assert int(rows_of()["photograph"]["segments"]) > 0
    assert topolora("predict", *words, "--no_overlay").status == 0
    assert topolora("measure", "--masks", "predictions", "--output_dir", "again", "--no_pictures").status == 0
    assert rows_of("again/totals.csv") == rows_of()  # of the masks alone, and named as the image
    pytest.importorskip("rasterio")
    monkeypatch.setenv("TOPOLORA_MAX_IMAGE_PIXELS", "4000")
    done = topolora("measure", *words, "--output_dir", "rows", "--no_pictures")
    assert done.status == 0, done.err
    assert rows_of("rows/totals.csv") == rows_of() and Path("rows/photograph_mask.tif").exists()


def test_a_raster_on_the_map_gives_metres_and_lines_where_they_are(topolora, tmp_path):
    rasterio, pyogrio = pytest.importorskip("rasterio"), pytest.importorskip("pyogrio")
    mask = np.zeros((80, 120), np.uint8)
    mask[39:42, 10:110] = 255  # the centre of row 40 is 81 m below the upper edge
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(2, 0, 500000, 0, -2, 5000000)}
    with rasterio.open(tmp_path / "road.tif", "w", "GTiff", 120, 80, 1, dtype="uint8", **place) as file:
        file.write(mask, 1)
    assert topolora("measure", "--masks", tmp_path / "road.tif", "--vector", "gpkg", "--no_pictures").status == 0
    row = rows_of()["road"]
    assert (row["unit"], row["pixel_size"]) == ("m", "2.0")
    assert float(row["length"]) == pytest.approx(200, abs=2) and float(row["mean_width"]) == pytest.approx(6, abs=0.3)
    info = pyogrio.read_info("measures/road_graph.gpkg", layer="segments")
    assert info["crs"] == "EPSG:32633" and info["features"] == 1
    assert info["total_bounds"] == pytest.approx((500020, 5000000 - 81, 500220, 5000000 - 81), abs=2)
    assert topolora("measure", "--masks", tmp_path / "road.tif", "--output_dir", "lonlat", "--no_pictures").status == 0
    features = json.loads(Path("lonlat/road_graph.geojson").read_text())["features"]
    (x, y), *_ = features[0]["geometry"]["coordinates"]
    assert (x, y) == pytest.approx((15.0, 45.15), abs=0.01)


def test_a_system_that_is_not_true_to_scale_is_refused(topolora, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    place = {"crs": "EPSG:3857", "transform": rasterio.Affine(2, 0, 1.5e6, 0, -2, 8e6)}  # at 58 degrees north
    with rasterio.open(tmp_path / "road.tif", "w", "GTiff", 20, 9, 1, dtype="uint8", **place) as file:
        file.write(np.eye(9, 20, dtype=np.uint8), 1)
    words = ("measure", "--masks", tmp_path / "road.tif", "--no_pictures")
    refused = topolora(*words)
    assert refused.status == 1 and "a pixel of 2 m is 1.0" in refused.err and "--pixel_size" in refused.err
    assert topolora(*words, "--pixel_size", 1.05, "--unit", "m", "--overwrite").status == 0


def test_several_processes_are_refused(topolora, masks, monkeypatch):
    monkeypatch.setattr("topolora_hf.commands.measure.process_state", lambda: SimpleNamespace(num_processes=2))
    refused = topolora("measure", "--masks", masks)
    assert refused.status == 1 and "launched as 2" in refused.err and not Path("measures").exists()


@pytest.mark.parametrize(
    "kind, message",
    [
        ("stray", "no class: 7 (1 pixels), 255 ("),
        ("bands", "a mask has one band, and this has 3"),
        ("float", "has more than 256 levels in its first 40 rows"),
        ("palette", "has a palette"),
    ],
)
def test_a_mask_by_rows_with_other_levels_than_a_masks_is_refused(topolora, tmp_path, monkeypatch, kind, message):
    rasterio = pytest.importorskip("rasterio")
    monkeypatch.setenv("TOPOLORA_MAX_IMAGE_PIXELS", "1000")
    values = np.zeros((3 if kind == "bands" else 1, 40, 50), np.float32 if kind == "float" else np.uint8)
    values[:, 20] = 255
    values[0, 0, 0] = 7 * (kind == "stray")
    if kind == "float":
        values += np.random.default_rng(0).random(values.shape, np.float32)
    look = {"photometric": "palette"} if kind == "palette" else {}
    size = {"height": 40, "width": 50, "count": len(values), "dtype": values.dtype}
    with rasterio.open(tmp_path / "a.tif", "w", "GTiff", **size, **look) as file:
        file.write(values)
        if kind == "palette":
            file.write_colormap(1, {0: (255, 255, 255), 255: (0, 0, 0)})
    refused = topolora("measure", "--masks", tmp_path / "a.tif")
    assert refused.status == 1 and message in refused.err
    named = topolora("measure", "--masks", tmp_path / "a.tif", "--mask_values", 255, "--overwrite", "--no_pictures")
    assert (named.status == 0) == (kind in ("stray", "palette"))


@pytest.mark.parametrize(
    "words, message",
    [
        ((), "give either masks"),
        (("--masks", "masks", "--images", "masks"), "give either masks"),
        (("--images", "masks"), "images need an adapter"),
        (("--masks", "masks", "--adapter", "tiny"), "masks need none"),
        (("--masks", "masks", "--threshold", 0.4), "threshold is for images"),
        (("--masks", "masks", "--unit", "mm"), "give pixel_size and unit together"),
        (("--masks", "masks", "--pixel_size", 0, "--unit", "mm"), "pixel_size must be above 0"),
        (("--images", "masks", "--adapter", "tiny", "--ignore", 3), "ignore is for masks"),
        (("--masks", "masks", "--vector", "shp"), "invalid choice"),
        (("--masks", "nowhere"), "no images at nowhere"),
        (("--masks", "masks/pixel.png", "--vector", "gpkg"), "there is no GeoPackage"),
    ],
)
def test_what_cannot_be_meant_is_refused(topolora, masks, words, message):
    done = topolora("measure", *words)
    assert done.status in (1, 2) and message in done.err


def test_a_raster_too_large_for_memory_is_measured_by_rows_alike(topolora, tmp_path, monkeypatch):
    rasterio = pytest.importorskip("rasterio")
    sample = draw_synthetic(1, size=160, kinds=["arteries_veins"])["mask"]
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(2, 0, 500000, 0, -2, 5000000)}
    labels = sample[0] + 2 * sample[1]
    labels[:40, :30] = 9
    with rasterio.open(tmp_path / "a.tif", "w", "GTiff", 160, 160, 1, dtype="uint8", nodata=9, **place) as file:
        file.write(labels, 1)
    words = ("measure", "--masks", tmp_path / "a.tif", "--classes", "artery=1,3", "vein=2,3", "--output_dir")
    assert topolora(*words, "whole", "--no_pictures").status == 0
    monkeypatch.setenv("TOPOLORA_MAX_IMAGE_PIXELS", "10000")
    done = topolora(*words, "rows")
    assert done.status == 0, done.err
    assert Path("rows/totals.csv").read_text() == Path("whole/totals.csv").read_text()
    refused = topolora(*words, "ignored", "--ignore", 7)
    assert refused.status == 1 and "without --ignore" in refused.err
    assert Path("rows/a_segments.csv").read_text() == Path("whole/a_segments.csv").read_text()
