import json
from dataclasses import asdict

import numpy as np
import pytest
import tifffile

from topolora_hf.data.errors import DataError
from topolora_hf.data.images.pictures import decode_image
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


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        (np.linspace(0, 0.2, 50), (0, 1)),
        (np.float32([0, 1]), (0, 1)),
        (np.arange(90, dtype=np.uint16), (0, 255)),
        (np.arange(200, dtype=np.float32), (0, 255)),
        (np.linspace(0, 1.7, 201), None),  # above 1, so it is no share
        (np.linspace(0, 30.5, 201, dtype=np.float32), None),
        (np.linspace(-1, 1, 201), None),
        (np.arange(-100, 101, dtype=np.int8), None),
        (np.arange(2**32 - 201, 2**32, dtype=np.uint32), None),
        (np.arange(0, 20_001, 100, dtype=np.int64), None),
    ],
)
def test_values_keep_a_scale_of_their_own_and_are_stretched_else_whatever_their_type(values, scale):
    assert fit_intensity_scaling([values], (0, 100)).high == pytest.approx(float(values.max()))
    fitted = fit_intensity_scaling([values])
    assert (fitted.low, fitted.high) == pytest.approx(scale or tuple(np.percentile(values, (0.5, 99.5))), rel=1e-6)
    assert len(np.unique(fitted(values))) > 0.9 * min(len(np.unique(values)), 50)


@pytest.mark.parametrize("shape", [(512, 512, 3), (300, 1024, 3), (2048, 300), (1024, 768, 3)])
def test_percentiles_see_all_channels_and_columns(shape):
    image = np.random.default_rng(0).integers(0, 1000, shape).astype(np.uint16)
    image[..., -1] *= 6  # a bright channel, or the last column
    image[:, ::4] *= 10
    assert fit_intensity_scaling([image]).high == pytest.approx(np.percentile(image, 99.5), rel=0.05)


def test_a_mostly_dark_image_is_not_black_altogether():
    image = np.zeros((50, 50), np.uint16)
    image[0, :5] = 3000
    assert fit_intensity_scaling([image]) == IntensityScaling(0, 3000)


@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        ("uint8", {"intensity_transform": "sqrt"}),
        ("uint8", {"intensity_percentiles": (2, 98)}),
        ("uint16", {"intensity_transform": "sqrt"}),
        ("float32", {"intensity_percentiles": (2, 98)}),
    ],
)
def test_a_requested_transform_or_range_has_an_effect_on_every_type(folder, kind, flags):
    for number in range(6):
        values = np.random.default_rng(number).random((48, 64)) * (0.5 if kind == "float32" else 100)
        tifffile.imwrite(folder / f"images/{number}.tif", values.astype(kind))
    plain, asked = (load_segmentation_data(str(folder), **more) for more in ({}, flags))
    assert (plain["train"][0]["image"] != asked["train"][0]["image"]).mean() > 0.5
    assert asked.intensity.of_8_bits == (kind == "uint8") and any("(black)" in remark for remark in asked.remarks)


def test_what_would_do_nothing_is_refused(folder):
    with pytest.raises(DataError, match="adapter's own intensity"):
        load_segmentation_data(str(folder), intensity=IntensityScaling(0, 1), intensity_transform="log")
    for number in range(6):
        values = np.random.default_rng(number).uniform(0, 0.2, (48, 64)).astype(np.float32)
        tifffile.imwrite(folder / f"images/{number}.tif", values)
    with pytest.raises(DataError, match="log of values from .* nearly linear"):
        load_segmentation_data(str(folder), intensity_transform="log", intensity_percentiles=(1, 99))


def test_types_of_several_scales_are_refused_with_their_ranges(folder):
    tifffile.imwrite(folder / "images/0.tif", np.random.default_rng(0).random((48, 64), np.float32))
    with pytest.raises(
        DataError, match=r"several scales.*(float32 up to 0\.99\d*, uint16 up to 30000|uint16.*float32)"
    ):
        load_segmentation_data(str(folder))


@pytest.mark.parametrize(
    ("kind", "nodata"), [("f4", "-3.4028234663852886e+38"), ("f4", "nan"), ("u2", "0"), ("i2", "-9999"), ("f8", "1e20")]
)
def test_pixels_without_data_are_invalid_black_and_left_out_of_the_range(folder, kind, nodata):
    tags = [(42113, "s", 0, nodata, True)]
    for number in range(6):
        values = (1000 + radar(number).astype(np.float64) % 500).astype(kind)
        values[:9, :30] = np.dtype(kind).type(float(nodata))
        tifffile.imwrite(folder / f"images/{number}.tif", values, extratags=tags)
    data = load_segmentation_data(str(folder))
    row = data["train"][0]
    assert not row["valid_mask"][:9, :30].any() and row["valid_mask"].sum() == 48 * 64 - 270
    assert not row["image"][:9, :30].any() and 1000 <= data.intensity.low < data.intensity.high <= 1500
    assert len(np.unique(row["image"])) > 50
    assert any(f"6 images of {np.dtype(kind)}" in remark and "8.8% without data" in remark for remark in data.remarks)


def test_an_image_that_the_scaling_makes_one_grey_is_warned_of(tmp_path, caplog):
    tifffile.imwrite(tmp_path / "a.tif", np.random.default_rng(0).random((9, 9), np.float32))
    decode_image(tmp_path / "a.tif", scaling=IntensityScaling(0, 5000))
    assert "a.tif: its float32 values" in caplog.text and "all become 0" in caplog.text


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
