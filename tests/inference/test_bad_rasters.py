"""Rasters that are broken, empty or odd: a named error, or an empty but valid file, in memory and by rows."""

import os
import shutil
import stat

import numpy as np
import pytest
import rasterio
import tifffile
from rasterio import Affine
from rasterio.control import GroundControlPoint

from topolora_hf import Predictor
from topolora_hf.data.errors import DataError
from topolora_hf.data.place import read_place
from topolora_hf.inference.rasters import predict_raster

from .conftest import photograph
from .test_georeferenced import UTM, written

HEIGHT, WIDTH = 40, 50
IMAGE = photograph(HEIGHT, WIDTH).transpose(2, 0, 1)
GREY = np.tile(IMAGE[:1], (4, 1, 1))
SITE = 'LOCAL_CS["site grid",UNIT["metre",1]]'


def cut(path, share):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def truncated(path, share=0.6, **options):
    tifffile.imwrite(path, IMAGE.transpose(1, 2, 0), photometric="rgb", tile=(16, 16), **options)
    cut(path, share)


def broken_tile(path):
    written(path, IMAGE, compress="deflate", tiled=True, blockxsize=16, blockysize=16, photometric="rgb")
    with tifffile.TiffFile(path) as tiff:
        at = tiff.pages[0].dataoffsets[3]
    content = bytearray(path.read_bytes())
    content[at : at + 40] = b"\xff" * 40
    path.write_bytes(content)


def without_its_system(path):
    """The coordinate system was in .aux.xml, which is missing; the transform stays."""
    with rasterio.Env(GDAL_TIFF_GEOKEYS_FLAVOR="STANDARD"):
        written(path, IMAGE, transform=UTM["transform"])


def turned(path):
    tifffile.imwrite(path, IMAGE.transpose(1, 2, 0), photometric="rgb", extratags=[(274, "H", 1, 6, True)])


def gcps(path):
    points = [GroundControlPoint(row, column, 12 + column / 1e4, 45 - row / 1e4, 0)
              for row, column in ((0, 0), (0, WIDTH), (HEIGHT, 0), (HEIGHT, WIDTH))]  # fmt: skip
    written(path, IMAGE, crs="EPSG:4326", gcps=points)


def infinite(path):
    values = IMAGE.astype(np.float32)
    values[0, 0, 0], values[0, 1, 1] = np.inf, -np.inf
    written(path, values, **UTM)


def constant(path):
    written(path, np.full((1, HEIGHT, WIDTH), 700, np.uint16), **UTM)


def text_for_nodata(path):
    tifffile.imwrite(path, IMAGE[0], extratags=[(42113, "s", 0, "none", True)])


def oblong(path):
    written(path, IMAGE, crs="EPSG:32633", transform=Affine(2, 0, 0, 0, -1, 0))


def claims(path):
    """A header of 60,000 rows and columns, and no pixels."""
    tifffile.imwrite(path, IMAGE.transpose(1, 2, 0), photometric="rgb", rowsperstrip=HEIGHT)
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages[0].tags[256].overwrite(60_000)
        tiff.pages[0].tags[257].overwrite(60_000)


ERRORS = {
    "cut in its tiles": (truncated, "scene.tif"),
    "cut in its header": (lambda path: truncated(path, 0.001), "scene.tif"),
    "a tile that does not unpack": (broken_tile, "scene.tif"),
    "no bytes": (lambda path: path.write_bytes(b""), "scene.tif.*cannot be read"),
    "text": (lambda path: path.write_text("no image"), "scene.tif.*cannot be read"),
    "a folder": (lambda path: path.mkdir(), "scene.tif"),
    "nothing": (lambda path: None, "scene.tif: no such file"),
    "two bands": (lambda path: written(path, IMAGE[:2]), "2 bands of uint8.*--bands"),
    "four bands": (lambda path: written(path, GREY, photometric="minisblack"), "4 bands.*--bands"),
    "nodata everywhere": (lambda path: written(path, IMAGE * 0, nodata=0), "has no valid pixel"),
    "NaN everywhere": (lambda path: written(path, np.full((1, 9, 9), np.nan, np.float32)), "valid pixel|finite value"),
    "masked out everywhere": (lambda path: written(path, IMAGE, mask=IMAGE[0] > 255), "no valid pixel"),
    "complex numbers": (lambda path: written(path, IMAGE[:1].astype(np.complex64)), "scene.tif"),
    "a stack": (lambda path: tifffile.imwrite(path, IMAGE, photometric="minisblack"), "3 images of the same size"),
    "CMYK of 16 bits": (lambda path: written(path, GREY.astype(np.uint16), photometric="cmyk"), "scene.tif"),
    "a size that is not there": (claims, "scene.tif"),
    "a text for nodata": (text_for_nodata, "nodata value"),
}  # fmt: skip

VALID = {
    "a pixel": lambda path: written(path, IMAGE[:, :1, :1], **UTM),
    "a row": lambda path: written(path, IMAGE[:, :1], **UTM),
    "a column": lambda path: written(path, IMAGE[:, :, :1], **UTM),
    "a missing system": without_its_system,
    "a system of its own": lambda path: written(path, IMAGE, crs=SITE, transform=UTM["transform"]),
    "a system without a transform": lambda path: written(path, IMAGE, crs="EPSG:32633"),
    "control points": gcps,
    "infinite values": infinite,
    "one value": constant,
    "black": lambda path: written(path, IMAGE * 0, **UTM),
    "pixels that are not square": oblong,
    "up is down": lambda path: written(path, IMAGE, crs="EPSG:32633", transform=Affine(1, 0, 5e5, 0, 1, 5e6)),
    "nodata out of range": lambda path: written(path, IMAGE, nodata=None, **UTM),
}  # fmt: skip


@pytest.fixture
def predictor(adapter, settings):
    return Predictor(adapter, settings)


@pytest.mark.parametrize("kind", ERRORS)
def test_a_bad_raster_is_a_named_error_in_memory_and_by_rows(tmp_path, predictor, kind):
    make, message = ERRORS[kind]
    make(tmp_path / "scene.tif")
    for call in (
        lambda path: predictor(path),
        lambda path: predict_raster(predictor, path, tmp_path / "out" / "mask.tif"),
    ):
        with pytest.raises(DataError, match=message) as error:
            call(tmp_path / "scene.tif")
        assert "scene.tif" in str(error.value) and len(str(error.value)) < 600
    assert not list((tmp_path / "out").glob("*")) or kind in ("cut in its tiles", "a tile that does not unpack")
    assert not (tmp_path / "out" / "mask.tif").exists()


@pytest.mark.parametrize("kind", VALID)
def test_an_odd_raster_gives_the_same_valid_mask_in_memory_and_by_rows(tmp_path, predictor, kind):
    path = tmp_path / "scene.tif"
    VALID[kind](path)
    predict_raster(predictor, path, tmp_path / "mask.tif", overlay=tmp_path / "overlay.png")
    prediction = predictor(path)
    assert prediction.place == read_place(path) or prediction.place.gcps
    with rasterio.open(tmp_path / "mask.tif") as mask, rasterio.open(path) as image:
        np.testing.assert_array_equal(mask.read(1), prediction.mask_values)
        assert (mask.shape, mask.crs, mask.transform) == (image.shape, image.crs, image.transform)
        assert len(mask.gcps[0]) == len(image.gcps[0])


@pytest.mark.parametrize("level", [0, 1], ids=["nothing found", "all foreground"])
def test_an_empty_or_full_mask_is_a_valid_file(tmp_path, adapter, settings, level):
    path = written(tmp_path / "scene.tif", IMAGE, **UTM)
    predict_raster(
        Predictor(adapter, settings, threshold=1.0 - level), path, tmp_path / "mask.tif", overlay=tmp_path / "o.png"
    )
    with rasterio.open(tmp_path / "mask.tif") as mask:
        assert np.unique(mask.read(1)).tolist() == [255 * level] and mask.nodata is None


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may write anywhere")
def test_a_folder_that_may_not_be_written_to_is_named(tmp_path, predictor):
    path, out = written(tmp_path / "scene.tif", IMAGE, **UTM), tmp_path / "out"
    out.mkdir()
    out.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(PermissionError, match="out"):
        predict_raster(predictor, path, out / "mask.tif")
    shutil.rmtree(out)


def test_a_full_disk_is_named_and_the_rows_that_are_there_are_gone_on_with(tmp_path, predictor):
    import resource

    path = written(tmp_path / "scene.tif", photograph(130, 80).transpose(2, 0, 1), **UTM)
    own = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (80 * 60, own[1]))
    try:
        with pytest.raises(OSError, match="masks"):
            predict_raster(predictor, path, tmp_path / "mask.tif")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, own)
    firsts = []
    predict_raster(predictor, path, tmp_path / "mask.tif", progress=lambda first, *_: firsts.append(first))
    assert firsts[0] == 48
    with rasterio.open(tmp_path / "mask.tif") as mask:
        np.testing.assert_array_equal(mask.read(1), predictor(path).mask_values)
