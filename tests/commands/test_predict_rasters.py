"""`topolora predict` of georeferenced rasters, and of those that are too large for memory."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio import Affine

from topolora_hf.data.images.limits import PIXELS_VARIABLE

UTM = {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 5e5, 0, -0.5, 4.6e6)}


@pytest.fixture
def scenes(tmp_path, monkeypatch):
    """`scenes/`: one of 4 bands of 16 bits, one of RGB; 90 x 80 pixels."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scenes").mkdir()
    values = np.random.default_rng(0).integers(1, 2000, (4, 80, 90)).astype(np.uint16)
    values[:, :9] = 0
    form = {"driver": "GTiff", "height": 80, "width": 90, "nodata": 0, **UTM}
    for name, array in (("many", values), ("rgb", (values[:3] // 8).astype(np.uint8))):
        with rasterio.open(f"scenes/{name}.tif", "w", count=len(array), dtype=array.dtype, **form) as dataset:
            dataset.write(array)
    return tmp_path


@pytest.fixture
def predict(topolora, adapter):
    return lambda *words: topolora("predict", "--adapter", adapter, "--images", "scenes", *words)


def test_bands_are_chosen_and_asked_for_with_what_the_file_has(scenes, predict):
    done = predict("--output_dir", "out")
    assert done.status != 0 and "many.tif: has 4 bands of uint16" in done.err and "--bands 1 2 3" in done.err
    assert Path("out/rgb_mask.tif").is_file() and not Path("out/many_mask.tif").exists()
    done = predict("--output_dir", "chosen", "--bands", "3", "2", "1", "--probability")
    assert done.status == 0, done.err
    with rasterio.open("chosen/many_mask.tif") as mask, rasterio.open("chosen/many_probability.tif") as probability:
        assert (mask.transform, mask.crs) == (probability.transform, probability.crs) == (*UTM.values(),)[::-1]
        assert mask.nodata == 127 and np.isnan(probability.nodata)
        assert (mask.dataset_mask()[:9] == 0).all() and (probability.dataset_mask()[9:] == 255).all()


def test_a_raster_too_large_for_memory_gives_the_same_mask(scenes, predict, monkeypatch):
    words = ("--bands", "3", "2", "1", "--probability")
    assert predict(*words, "--output_dir", "whole").status == 0
    monkeypatch.setenv(PIXELS_VARIABLE, "5000")
    done = predict(*words, "--output_dir", "rows")
    assert done.status == 0, done.err
    assert "scenes/many.tif: wrote rows/many_mask.tif, many_probability.tif, many_overlay.png" in done.out
    for name in ("many_mask", "rgb_mask", "many_probability"):
        with rasterio.open(f"whole/{name}.tif") as whole, rasterio.open(f"rows/{name}.tif") as rows:
            np.testing.assert_array_equal(rows.read(), whole.read())
            assert str(rows.profile) == str(whole.profile)
    assert Image.open("rows/many_overlay.png").size == (90, 80)
    assert sorted(path.name for path in Path("rows").iterdir()) == sorted(
        ["predict_args.json", *(f"{name}_{end}" for name in ("many", "rgb")
                                for end in ("mask.tif", "probability.tif", "overlay.png"))]
    )  # fmt: skip
    again = predict(*words, "--output_dir", "rows")
    assert again.status == 0 and "2 of 2 images have a mask" in again.out and "loading" not in again.out


def test_what_needs_the_whole_mask_is_refused_for_a_raster_too_large_for_memory(scenes, predict, monkeypatch):
    monkeypatch.setenv(PIXELS_VARIABLE, "5000")
    done = predict("--bands", "1", "--centreline")
    assert done.status != 0 and "scenes/rgb.tif: is too large for memory" in done.err and "--centreline" in done.err


def test_a_raster_says_how_far_it_is(scenes, predict, monkeypatch):
    monkeypatch.setenv(PIXELS_VARIABLE, "5000")
    monkeypatch.setattr("topolora_hf.commands.images._SECONDS_BETWEEN", 0)
    done = predict("--bands", "1", "--no_overlay")
    assert done.status == 0 and "scenes/many.tif: 24 of 80 rows, about" in done.out + done.err, done.out
    assert json.loads(Path("predictions/predict_args.json").read_text())["bands"] == [1]
