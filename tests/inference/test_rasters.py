"""Rasters that are segmented by rows: the whole image's mask to the bit, whatever the rows, and after any stop."""

import itertools
import math
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from PIL import Image

from topolora_hf import Predictor
from topolora_hf.data.errors import DataError
from topolora_hf.data.intensity import IntensityScaling
from topolora_hf.geo.raster import opened_by_rows
from topolora_hf.inference.rasters import predict_raster
from topolora_hf.inference.tiling import tile_starts

from .conftest import TILE, photograph
from .test_georeferenced import UTM, written


def scene(path, height=130, width=60, kind="uint8", bands=3, seed=0, **profile):
    values = np.random.default_rng(seed).integers(1, 255, (bands, height, width)).astype(kind)
    values[:, : height // 3, : width // 4] = 0
    return written(path, values, **{"nodata": 0, **UTM, **profile})


@pytest.fixture
def predictor(adapter, settings):
    return Predictor(adapter, settings)


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read().squeeze()


def whole(predictor, image, folder):
    """What the same image gives in memory."""
    prediction = predictor(image)
    prediction.save_mask(folder / "whole.png")
    prediction.save_probability(folder / "whole_probability.png")
    return read(folder / "whole.tif"), read(folder / "whole_probability.tif")


@pytest.mark.parametrize(
    "profile",
    [
        {},
        {"tiled": True, "blockxsize": 32, "blockysize": 64, "compress": "lzw"},
        {"kind": "uint16"},
        {"kind": "float32", "bands": 1},
        {"height": 30, "width": 130},
        {"height": 20, "width": 30},
        {"height": 1, "width": 1, "nodata": None},
        {"height": 140, "width": 3},
    ],
    ids=["plain", "tiled", "16 bits", "float", "low", "smaller than a tile", "a pixel", "narrow"],
)
def test_a_mask_by_rows_is_that_of_the_whole_image(tmp_path, predictor, profile):
    image = scene(tmp_path / "scene.tif", **profile)
    mask, probability = whole(predictor, image, tmp_path)
    predict_raster(predictor, image, tmp_path / "mask.tif", tmp_path / "probability.tif", tmp_path / "overlay.png")
    np.testing.assert_array_equal(read(tmp_path / "mask.tif"), mask)
    np.testing.assert_array_equal(read(tmp_path / "probability.tif"), probability)
    with rasterio.open(image) as given, rasterio.open(tmp_path / "mask.tif") as found:
        assert (found.bounds, found.transform, found.crs) == (given.bounds, given.transform, given.crs)
        np.testing.assert_array_equal(found.dataset_mask(), given.dataset_mask())
    assert Image.open(tmp_path / "overlay.png").size[0] >= predictor(image).image.shape[1]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("overlap", [0, 0.5, 0.8])
def test_other_overlaps_flips_and_batches_give_the_whole_images_mask(tmp_path, adapter, settings, overlap):
    predictor = Predictor(adapter, settings, overlap=overlap, tile_batch=3, flips=overlap == 0)
    image = scene(tmp_path / "scene.tif", 70, 60)
    predict_raster(predictor, image, tmp_path / "mask.tif")
    np.testing.assert_array_equal(read(tmp_path / "mask.tif"), whole(predictor, image, tmp_path)[0])


def test_an_adapters_own_range_is_used(tmp_path, adapter, settings):
    predictor = Predictor(adapter, replace(settings, intensity=IntensityScaling(0, 900), bands=(4, 1, 2)))
    image = scene(tmp_path / "scene.tif", kind="uint16", bands=4)
    predict_raster(predictor, image, tmp_path / "mask.tif")
    np.testing.assert_array_equal(read(tmp_path / "mask.tif"), whole(predictor, image, tmp_path)[0])


def test_any_row_of_tiles_is_one_to_start_at(tmp_path, predictor):
    image = scene(tmp_path / "scene.tif")
    expected = predictor(image).probabilities
    with opened_by_rows(image) as raster:
        starts = predictor.row_starts(raster.size)
        assert starts == tile_starts(130, TILE, 0.5)
        for start in starts[::2]:
            parts = list(predictor.by_rows(raster, start))
            assert [top for top, _ in parts] == starts[starts.index(start) :]
            found = np.concatenate([part.probabilities for _, part in parts], axis=1)
            np.testing.assert_array_equal(found, expected[:, start:])
        assert not list(predictor.by_rows(raster, 130))


@pytest.mark.parametrize("cut", [0, 1, 3000])
def test_a_stopped_call_goes_on_after_the_finished_rows(tmp_path, predictor, cut):
    """`cut` bytes of the last rows were not written when it was stopped."""
    image, names = scene(tmp_path / "scene.tif"), ("mask.tif", "probability.tif", "overlay.png")
    predict_raster(predictor, image, *(tmp_path / f"expected_{name}" for name in names))
    seen = []

    def stop(first, done, height):
        seen.append((first, done))
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_raster(predictor, image, *(tmp_path / name for name in names), progress=stop)
    for file in ("masks", "probabilities"):
        path = tmp_path / ".mask.tif.rows" / file
        os.truncate(path, path.stat().st_size - cut)
    predict_raster(predictor, image, *(tmp_path / name for name in names), progress=lambda *rows: seen.append(rows))
    whole_rows = seen[2][1] - math.ceil(cut / 60)  # a row of the mask takes 60 bytes
    assert seen[3][0] == max(start for start in predictor.row_starts((130, 60)) if start <= whole_rows)
    assert seen[-1][1] == 130
    for name in names:
        assert (tmp_path / name).read_bytes() == (tmp_path / f"expected_{name}").read_bytes()


def test_a_killed_process_leaves_rows_that_are_gone_on_with(tmp_path, predictor):
    image = scene(tmp_path / "scene.tif")
    if not (child := os.fork()):
        predict_raster(
            predictor, image, tmp_path / "mask.tif",
            progress=lambda first, done, height: done > 60 and os.kill(os.getpid(), signal.SIGKILL),
        )  # fmt: skip
        os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    firsts = []
    predict_raster(predictor, image, tmp_path / "mask.tif", progress=lambda first, *_: firsts.append(first))
    assert set(firsts) == {72}
    np.testing.assert_array_equal(read(tmp_path / "mask.tif"), whole(predictor, image, tmp_path)[0])


def test_rows_of_another_image_adapter_or_setting_are_thrown_away(tmp_path, adapter, settings, caplog):
    def starts(image, **changes):
        """Where a call starts that is then stopped after two rows of tiles."""
        calls = itertools.count()
        seen = []

        def stop(first, done, height):
            seen.append(first)
            if next(calls) == 1:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            predict_raster(Predictor(adapter, settings, **changes), image, tmp_path / "mask.tif", progress=stop)
        return seen[0]

    image = scene(tmp_path / "scene.tif")
    assert starts(image) == 0 and starts(image) > 0
    assert starts(image, threshold=0.3) == 0
    assert "mask.tif.rows: rows of another image, adapter or setting are thrown away" in caplog.text
    scene(image, seed=1)
    os.utime(image, (1, 1))
    assert starts(image, threshold=0.3) == 0
    parameter = next(parameter for parameter in adapter.parameters() if parameter.requires_grad)
    before = parameter.data.clone()
    parameter.data += 1e-3
    assert starts(image, threshold=0.3) == 0
    parameter.data = before


def test_the_memory_it_takes_does_not_grow_with_the_height(tmp_path, predictor, monkeypatch):
    held = []
    own = np.concatenate
    monkeypatch.setattr("topolora_hf.geo.raster.np.concatenate", lambda arrays: held.append(own(arrays)) or held[-1])
    with opened_by_rows(scene(tmp_path / "scene.tif", 250, 40)) as raster:
        for _, part in predictor.by_rows(raster):
            assert part.image.shape[0] <= TILE
    assert max(len(array) for array in held) <= TILE


@pytest.mark.parametrize(
    ("changes", "arguments", "flags"),
    [
        ({"view": "full"}, {}, "full images, resized to one tile"),
        ({"test_time_scales": (0.8, 1.0)}, {}, "--test_time_scales 1 does without"),
        ({}, {"scale": 2.0}, "--scale 1 does without"),
    ],
)
def test_what_needs_the_whole_image_is_refused_with_the_way_out(tmp_path, adapter, settings, changes, arguments, flags):
    predictor = Predictor(adapter, replace(settings, **changes), **arguments)
    with pytest.raises(DataError, match=f"scene.tif: .*{flags}"):
        predict_raster(predictor, scene(tmp_path / "scene.tif"), tmp_path / "mask.tif")
    assert not (tmp_path / "mask.tif").exists()


@pytest.mark.parametrize("has_view", [False, True], ids=["no field of view", "a field of view"])
def test_an_adapter_of_fundus_photographs_takes_rasters_without_a_field_of_view(tmp_path, adapter, settings, has_view):
    predictor = Predictor(adapter, replace(settings, fov_diameter=90.0))
    side = 150 if has_view else 60
    rows, columns = np.mgrid[:side, :side]
    image = photograph(side, side) // 2 + np.uint8(90)
    image[np.hypot(rows - 75, columns - 75) > 70] *= not has_view
    path = written(tmp_path / "scene.tif", image.transpose(2, 0, 1), **UTM)
    if has_view:
        with pytest.raises(DataError, match="scene.tif: .*--scale 1 --no_within_fov does without"):
            predict_raster(predictor, path, tmp_path / "mask.tif")
        return
    predict_raster(predictor, path, tmp_path / "mask.tif")
    np.testing.assert_array_equal(read(tmp_path / "mask.tif"), whole(predictor, path, tmp_path)[0])


def test_an_image_without_data_is_an_error_and_leaves_nothing(tmp_path, predictor):
    image = written(tmp_path / "scene.tif", np.zeros((3, 60, 70), np.uint8), nodata=0)
    with pytest.raises(DataError, match="scene.tif: has no valid pixel"):
        predict_raster(predictor, image, tmp_path / "mask.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"]
