import json
from dataclasses import asdict

import numpy as np
import pytest
import tifffile

from topolora_hf.data import decode_image
from topolora_hf.data.errors import DataError
from topolora_hf.data.intensity import IntensityScaling, fit_intensity_scaling
from topolora_hf.data.loading import load_segmentation_data
from topolora_hf.data.tiles import TileDataset


def radar(seed, gain=1.0):
    """16-bit speckle with a few very bright points, as amplitude images have them."""
    rng = np.random.default_rng(seed)
    amplitude = rng.rayleigh(60 * gain, (48, 64))
    amplitude[rng.integers(0, 48, 8), rng.integers(0, 64, 8)] = 30_000
    return amplitude.astype(np.uint16)


@pytest.fixture
def folder(tmp_path):
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for number in range(6):
        tifffile.imwrite(tmp_path / f"images/{number}.tif", radar(number, gain=1 + number))
        mask = np.zeros((48, 64), np.uint16)
        mask[10:20] = 255
        tifffile.imwrite(tmp_path / f"masks/{number}.tif", mask)
    return tmp_path


def test_the_range_is_that_of_the_percentiles_over_all_images():
    images = [radar(seed, gain) for seed, gain in ((0, 1), (1, 4))]
    scaling = fit_intensity_scaling(images, (1, 99))
    expected = np.percentile(np.concatenate([image.ravel() for image in images]), (1, 99))
    assert (scaling.low, scaling.high) == pytest.approx(tuple(expected))
    assert scaling.high < 1000  # the bright points do not decide


def test_values_with_a_scale_of_their_own_keep_it():
    assert fit_intensity_scaling([np.linspace(0, 0.2, 50)]) == IntensityScaling(0, 1)
    assert fit_intensity_scaling([np.arange(90, dtype=np.uint16)]) == IntensityScaling(0, 255)


@pytest.mark.parametrize("transform", ["linear", "sqrt", "log"])
def test_every_transform_keeps_the_order_and_uses_the_whole_range(transform):
    values = np.linspace(0, 5000, 400)
    scaled = IntensityScaling(0, 5000, transform)(values).astype(int)
    assert scaled[0] == 0 and scaled[-1] == 255 and (np.diff(scaled) >= 0).all()
    if transform != "linear":
        assert scaled[20] > 255 * 20 / 399 + 30  # dark values are spread


def test_what_is_not_finite_becomes_black():
    assert IntensityScaling(1, 2)(np.array([np.nan, -np.inf, np.inf])).tolist() == [0, 0, 255]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 0), "low <= high"),
        ((0, 1, "cubic"), "'cubic'; allowed: linear, sqrt, log"),
        ((-20, 0, "log"), "decibels"),
    ],
)
def test_impossible_scalings_are_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        IntensityScaling(*arguments)


@pytest.mark.parametrize("percentiles", [(99, 1), (-1, 50), (50, 101)])
def test_impossible_percentiles_are_refused(percentiles):
    with pytest.raises(DataError, match="percentiles"):
        fit_intensity_scaling([radar(0)], percentiles)


def test_a_data_set_is_scaled_by_one_mapping_fitted_on_its_training_images(folder):
    data = load_segmentation_data(str(folder), validation_fraction=0, intensity_percentiles=(1, 99))
    train = {row["id"] for row in data["train"]}
    values = np.concatenate([radar(int(number), 1 + int(number)).ravel() for number in train])
    assert (data.intensity.low, data.intensity.high) == pytest.approx(tuple(np.percentile(values, (1, 99))))
    row = data["test"][0]
    pixels = radar(int(row["id"]), 1 + int(row["id"]))
    assert (row["image"] == data.intensity(pixels)[..., None]).all()


def test_an_adapters_scaling_survives_json_and_reads_the_same_pixels(folder):
    data = load_segmentation_data(str(folder), intensity_transform="log")
    kept = IntensityScaling(**json.loads(json.dumps(asdict(data.intensity))))
    again = load_segmentation_data(str(folder), intensity=kept)
    assert again.intensity == data.intensity
    row = data["test"][0]
    assert (decode_image(folder / f"images/{row['id']}.tif", scaling=kept) == row["image"]).all()


def test_a_16_bit_tile_keeps_its_dynamic_range(folder):
    data = load_segmentation_data(str(folder))
    tiles = TileDataset(data["train"], 32, augmentation=None)
    levels = [len(tiles[number]["pixel_values"][0].unique()) for number in range(len(tiles))]
    assert max(levels) > 100  # not a handful of dark levels


def test_8_bit_images_are_left_alone(make_pairs, tmp_path):
    data = load_segmentation_data(str(make_pairs(tmp_path, 4)), intensity=IntensityScaling(0, 10))
    assert data.intensity is None
    row = data["train"][0]
    assert (row["image"] == decode_image(tmp_path / f"images/{row['id']}.png")).all()
