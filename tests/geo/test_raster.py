import numpy as np
import pytest
import rasterio
import rasterio.shutil
import tifffile
from PIL import Image
from rasterio.enums import Resampling

from tests.data.tiff_writer import page, write_tiff
from topolora_hf.data.errors import DataError
from topolora_hf.data.images.pictures import read_picture
from topolora_hf.geo.raster import opened_by_rows

RNG = np.random.default_rng(0)
SIDE = (70, 90)


def numbers(bands, kind="uint8", top=255):
    values = RNG.integers(0, top, (bands, *SIDE))
    return (values / 7 if np.dtype(kind).kind == "f" else values).astype(kind)


def by_gdal(name, values, **options):
    return lambda path, write: write(path / name, values, **options)


def by_hand(values, **options):
    def write(path, _):
        (path / "scene.tif").write_bytes(write_tiff(page(values.transpose(1, 2, 0), **options)))
        return path / "scene.tif"

    return write


def with_overviews(path, write):
    write(path / "scene.tif", numbers(3), tiled=True, blockxsize=16, blockysize=32, photometric="rgb")
    with rasterio.open(path / "scene.tif", "r+") as dataset:
        dataset.build_overviews([2, 4], Resampling.average)
    return path / "scene.tif"


def with_palette(path, _):
    image = Image.fromarray(RNG.integers(0, 9, SIDE, dtype=np.uint8), "P")
    image.putpalette(RNG.integers(0, 256, 27, dtype=np.uint8).tolist())
    image.save(path / "scene.tif")
    return path / "scene.tif"


def with_alpha(path, write):
    write(path / "scene.tif", numbers(4), photometric="rgb", alpha="unassociated")
    return path / "scene.tif"


def as_cog(path, write):
    write(path / "plain.tif", numbers(3), photometric="rgb", crs="EPSG:32633")
    rasterio.shutil.copy(path / "plain.tif", path / "scene.tif", driver="COG", blocksize=64)
    return path / "scene.tif"


def as_jpeg_2000(path, _):
    Image.fromarray(numbers(3).transpose(1, 2, 0)).save(path / "scene.jp2")
    return path / "scene.jp2"


MASK = RNG.random(SIDE) > 0.3
KINDS = {
    "8 bits": by_gdal("scene.tif", numbers(1)),
    "RGB, tiled": by_gdal("scene.tif", numbers(3), tiled=True, blockxsize=32, blockysize=16, photometric="rgb"),
    "planes, LZW": by_gdal("scene.tif", numbers(3, "uint16", 999), interleave="band", compress="lzw", predictor=2),
    "16 bits, nodata": by_gdal("scene.tif", numbers(3, "uint16", 9), nodata=0),
    "one band of 16 bits, nodata": by_gdal("scene.tif", numbers(1, "uint16", 9), nodata=3),
    "signed": by_gdal("scene.tif", numbers(1, "int16", 4000) - np.int16(900), nodata=-900),
    "float, NaN": by_gdal("scene.tif", np.where(numbers(1) < 50, np.nan, numbers(1)).astype(np.float32), nodata=np.nan),
    "float64, deflate, predictor": by_gdal("scene.tif", numbers(3, "float64", 4000), compress="deflate", predictor=3),
    "zstd": by_gdal("scene.tif", numbers(3), compress="zstd"),
    "own mask": by_gdal("scene.tif", numbers(3), mask=MASK),
    "mask beside": by_gdal("scene.tif", numbers(3), mask=MASK, internal=False),
    "overviews": with_overviews,
    "cloud-optimised": as_cog,
    "alpha": with_alpha,
    "palette": with_palette,
    "bits": by_hand(numbers(1) > 100),
    "white is 0": by_hand(numbers(1), photometric=0),
    "white is 0, 16 bits": by_hand(numbers(1, "uint16", 4000), photometric=0, nodata="7"),
    "big endian": by_hand(numbers(1, "uint16", 4000), order=">"),
    "BigTIFF": by_gdal("scene.tif", numbers(3), bigtiff="yes", photometric="rgb"),
    "PNG": by_gdal("scene.png", numbers(3), driver="PNG"),
    "PNG of 16 bits": by_gdal("scene.png", numbers(1, "uint16", 4000), driver="PNG"),
    "PNG with alpha": by_gdal("scene.png", numbers(4), driver="PNG"),
    "JPEG 2000": as_jpeg_2000,
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_those_of_the_whole_image(tmp_path, write_raster, kind):
    path = KINDS[kind](tmp_path, write_raster)
    whole = read_picture(path)
    valid = np.ones(SIDE, bool) if whole.valid is None else whole.valid
    with opened_by_rows(path) as raster:
        assert raster.size == SIDE
        scaling = raster.scaling(None)
        for step in (1, 13, 70):
            for top in range(0, 70, step):
                part = raster.rows(top, min(70, top + step))
                assert part.values.dtype == whole.values.dtype
                np.testing.assert_array_equal(part.values, whole.values[top : top + step])
                part_valid = np.ones(part.values.shape[:2], bool) if part.valid is None else part.valid
                np.testing.assert_array_equal(part_valid, valid[top : top + step])
                pixels = part.scaled(scaling) if scaling else part.values
                np.testing.assert_array_equal(pixels, whole.rgb()[top : top + step])


def test_a_lossy_image_differs_by_rounding_at_most(tmp_path, write_raster):
    smooth = np.broadcast_to(np.linspace(20, 220, 90).astype(np.uint8), (3, *SIDE))
    path = write_raster(tmp_path / "scene.tif", smooth, compress="jpeg", photometric="ycbcr")
    with opened_by_rows(path) as raster:
        assert np.abs(raster.rows(0, 70).values.astype(int) - read_picture(path).values).max() <= 3


@pytest.mark.parametrize("bands", [(4, 3, 2), (8,)])
def test_bands_are_chosen_by_rows_as_of_the_whole(tmp_path, write_raster, bands):
    path = write_raster(tmp_path / "scene.tif", numbers(8, "uint16", 4000), nodata=5, names=["blue", "", "red"])
    whole = read_picture(path, bands=bands)
    with opened_by_rows(path, bands) as raster:
        np.testing.assert_array_equal(raster.rows(11, 30).values, whole.values[11:30])
    with (
        opened_by_rows(path) as raster,
        pytest.raises(DataError, match=r"8 bands of uint16 \(1 blue, 3 red\).*--bands"),
    ):
        raster.rows(0, 1)


def test_the_range_of_a_large_image_is_that_of_the_whole(tmp_path, write_raster, monkeypatch):
    """More values than are drawn, in several parts: the same values are drawn."""
    values = RNG.gamma(2, 400, (3, 400, 300)).astype(np.uint16)
    path = write_raster(tmp_path / "scene.tif", values, nodata=0)
    monkeypatch.setattr("topolora_hf.geo.raster._PART_PIXELS", 300 * 37)
    with opened_by_rows(path) as raster:
        np.testing.assert_array_equal(raster.rows(5, 50).scaled(raster.scaling(None)), read_picture(path).rgb()[5:50])


def test_levels_of_a_mask_are_read_without_those_that_mean_no_data(tmp_path, write_raster):
    values = RNG.choice(np.array([0, 127, 255], np.uint8), (1, *SIDE))
    with opened_by_rows(write_raster(tmp_path / "mask.tif", values, nodata=127)) as raster:
        found = raster.levels(20, 50)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.where(values[0, 20:50] == 255, 255, 0))


def test_what_cannot_be_read_by_rows_is_a_named_error(tmp_path, write_raster):
    path = tmp_path / "scene.tif"
    tifffile.imwrite(path, numbers(1)[0], tile=(16, 16))
    path.write_bytes(path.read_bytes()[:-6000])
    with opened_by_rows(path) as raster, pytest.raises(DataError, match="scene.tif, rows 0 to 69: cannot be read"):
        raster.rows(0, 70)
    (tmp_path / "text.tif").write_text("no image")
    with pytest.raises(DataError, match="text.tif: cannot be read as an image"), opened_by_rows(tmp_path / "text.tif"):
        pass
    with pytest.raises(DataError, match="absent.tif: no such file"), opened_by_rows(tmp_path / "absent.tif"):
        pass
    turned = tmp_path / "turned.tif"
    tifffile.imwrite(turned, numbers(1)[0], extratags=[(274, "H", 1, 6, True)])
    with pytest.raises(DataError, match="stored turned"), opened_by_rows(turned):
        pass
    cmyk = write_raster(tmp_path / "cmyk.tif", numbers(4), photometric="cmyk")
    with opened_by_rows(cmyk) as raster, pytest.raises(DataError, match="SEPARATED"):
        raster.rows(0, 1)
    several = tmp_path / "stack.tif"
    tifffile.imwrite(several, numbers(5), photometric="minisblack")
    with pytest.raises(DataError, match="5 images of the same size"), opened_by_rows(several):
        pass
