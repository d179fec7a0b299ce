"""Georeferenced images: masks at the same place, the file's own bands, masks and nodata."""

import numpy as np
import pytest
import rasterio
from rasterio import Affine

from topolora_hf.data.errors import DataError
from topolora_hf.data.images.pictures import read_picture
from topolora_hf.data.place import read_place
from topolora_hf.inference.prediction import Prediction

UTM = {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 5e5, 0, -0.5, 4.6e6)}


def written(path, values, names=(), mask=None, **profile):
    bands, height, width = values.shape
    form = {"driver": "GTiff", "dtype": values.dtype, "count": bands, "height": height, "width": width}
    with rasterio.open(path, "w", **form, **profile) as dataset:
        dataset.write(values)
        for band, name in enumerate(names, start=1):
            dataset.set_band_description(band, name)
        if mask is not None:
            dataset.write_mask(mask)
    return path


@pytest.mark.parametrize("nodata", [None, 0])
def test_a_mask_lies_where_its_image_lies(tmp_path, nodata):
    values = np.random.default_rng(0).integers(1, 256, (3, 20, 30), dtype=np.uint8)
    values[:, :4, :7] = 0
    path = written(tmp_path / "scene.tif", values, nodata=nodata, photometric="rgb", **UTM)
    picture = read_picture(path)
    probabilities = np.linspace(0, 1, 600, dtype=np.float32).reshape(1, 20, 30)
    prediction = Prediction(picture.rgb(), probabilities, (0.5,), inside=picture.valid, place=read_place(path))
    with pytest.raises(FileExistsError, match="scene.tif was not written by"):
        prediction.save_mask(tmp_path / "scene.png")
    for _ in range(2):
        prediction.save_mask(tmp_path / "scene_mask.png")
    with rasterio.open(path) as image, rasterio.open(tmp_path / "scene_mask.tif") as mask:
        assert (mask.bounds, mask.transform, mask.crs) == (image.bounds, image.transform, image.crs)
        np.testing.assert_array_equal(mask.dataset_mask(), image.dataset_mask())
        inside = image.dataset_mask() > 0
        np.testing.assert_array_equal(mask.read(1)[inside], prediction.mask[inside] * 255)


def test_a_mask_of_another_ending_is_refused_before_anything_is_written(tmp_path):
    path = written(tmp_path / "scene.tif", np.ones((3, 4, 4), np.uint8), photometric="rgb", **UTM)
    prediction = Prediction(
        np.zeros((4, 4, 3), np.uint8), np.ones((1, 4, 4), np.float32), (0.5,), place=read_place(path)
    )
    for save in (prediction.save_mask, prediction.save_probability, prediction.save_overlay):
        with pytest.raises(ValueError, match=r"mask.tif: a PNG is written, so the name must end in .png"):
            save(tmp_path / "mask.tif")
    with pytest.raises(ValueError, match=r"lines.png: the totals are JSON"):
        prediction.save_centreline(tmp_path / "lines.png")
    assert list(tmp_path.iterdir()) == [path]


def test_outside_nothing_is_foreground_whatever_the_threshold():
    inside = np.eye(4, dtype=bool)
    prediction = Prediction(np.zeros((4, 4, 3), np.uint8), np.zeros((1, 4, 4), np.float32), (0.0,), inside=inside)
    assert (prediction.mask == inside).all()


def test_a_file_without_a_place_gives_one_mask(tmp_path):
    Prediction(np.zeros((4, 4, 3), np.uint8), np.ones((1, 4, 4), np.float32), (0.5,)).save_mask(tmp_path / "mask.png")
    assert [path.name for path in tmp_path.iterdir()] == ["mask.png"]


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 8])
def test_bands_have_names_in_errors_and_are_chosen(tmp_path, bands):
    values = np.random.default_rng(0).integers(0, 256, (bands, 8, 9), dtype=np.uint8)
    names = ["blue", "green", "red", "nir & more", "", "", "", "last"][:bands]
    path = written(tmp_path / "scene.tif", values, names, photometric="minisblack")
    if bands in (1, 3):
        np.testing.assert_array_equal(read_picture(path).values, np.broadcast_to(values.transpose(1, 2, 0), (8, 9, 3)))
    else:
        shown = "4 nir & more(, 8 last)?" if bands > 2 else "2 green"
        with pytest.raises(DataError, match=rf"has {bands} bands of uint8 \(1 blue, .*{shown}\).*--bands"):
            read_picture(path)
    if bands > 2:
        np.testing.assert_array_equal(read_picture(path, bands=(3, 2, 1)).values, values[[2, 1, 0]].transpose(1, 2, 0))
    with pytest.raises(DataError, match=rf"has {bands} band\(s\) \(1 blue.*and bands 9 8 7 are asked for"):
        read_picture(path, bands=(9, 8, 7))


@pytest.mark.parametrize("internal", [True, False], ids=["in the file", "beside it"])
def test_the_mask_of_a_file_says_what_is_valid(tmp_path, internal):
    values = np.random.default_rng(0).integers(1, 256, (1, 8, 9), dtype=np.uint8)
    mask = np.arange(72).reshape(8, 9) % 5 > 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal):
        path = written(tmp_path / "scene.tif", values, mask=mask)
    assert (tmp_path / "scene.tif.msk").is_file() != internal
    np.testing.assert_array_equal(read_picture(path).valid, mask)
