import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.data.tiff_writer import page, write_tiff
from topolora_hf import DataError, load_segmentation_data
from topolora_hf.data.images.names import IMAGE_SUFFIXES
from topolora_hf.data.images.pictures import decode_image, read_picture
from topolora_hf.data.images.pillow_files import FORMATS

RGB = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
SMOOTH = np.add.outer(np.arange(32), np.arange(48)).astype(np.uint8)[..., None] + np.uint8([0, 60, 120])


def jpeg_tiff(order="<", mask=None):
    """As GDAL writes one: a tile of JPEG, and a mask beside it."""
    buffer = io.BytesIO()
    Image.fromarray(SMOOTH).save(buffer, "JPEG", quality=95, subsampling=0)
    tags, _ = page(SMOOTH, photometric=6, part=(32, 48))
    pages = [({**tags, 259: (3, [7]), 317: (3, [1])}, [buffer.getvalue()])]
    if mask is not None:
        pages.append(page(mask[..., None], photometric=4, page_type=4, compression="tiff_adobe_deflate"))
    return write_tiff(*pages, order=order)


def test_every_suffix_that_pillow_knows_for_the_formats_is_an_images():
    Image.init()
    assert {suffix for suffix, name in Image.EXTENSION.items() if name in FORMATS} | {".npy"} == IMAGE_SUFFIXES


@pytest.mark.parametrize("mask", [None, np.tri(32, 48, dtype=bool)])
def test_jpeg_in_a_tiff_is_read_with_its_mask(mask):
    picture = read_picture(jpeg_tiff(mask=mask))
    inside = np.ones((32, 48), bool) if mask is None else picture.valid
    assert mask is None or (inside == mask).all()
    assert np.abs(picture.values.astype(int) - SMOOTH)[inside].mean() < 3


@pytest.mark.parametrize("code", [34887, 50002, 34712])  # LERC, JPEG XL, JPEG 2000
def test_a_compression_that_needs_another_package_is_named(tmp_path, code):
    tags, parts = page(RGB, photometric=2)
    (tmp_path / "a.tif").write_bytes(write_tiff(({**tags, 259: (3, [code])}, parts)))
    with pytest.raises(
        DataError,
        match=rf"a.tif: is a TIFF .* compressed with {tifffile.COMPRESSION(code).name}, .*save it with deflate",
    ):
        decode_image(tmp_path / "a.tif")


def test_a_ppm_of_16_bit_colour_is_refused():
    with pytest.raises(DataError, match="has 16 bits, of which Pillow keeps 8"):
        decode_image(b"P6 3 2 4095\n" + bytes(36))


def test_jpeg_2000_of_16_bit_colour_is_refused(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.jp2", irreversible=False)
    content = bytearray((tmp_path / "a.jp2").read_bytes())
    content[content.index(b"\xff\x4f\xff\x51") + 42] = 15
    with pytest.raises(DataError, match="colour of 16 bits"):
        decode_image(bytes(content))


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize(("bands", "expected"), [((4, 3, 2), [3, 2, 1]), ((2,), [1, 1, 1]), ((1, 1, 5), [0, 0, 4])])
def test_a_data_set_of_many_bands_reads_those_that_are_named(tmp_path, save, planes, bands, expected):
    values = np.random.default_rng(0).integers(0, 256, (6, 24, 20, 5), dtype=np.uint8)
    for number, image in enumerate(values):
        save(tmp_path / f"masks/{number}.png", "mask", number)
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / f"images/{number}.tif").write_bytes(write_tiff(page(image, planes=planes, extra=[0] * 4)))
    with pytest.raises(DataError, match=r"images/0.tif: has 5 bands of uint8.*--bands 1 2 3"):
        load_segmentation_data(str(tmp_path))
    data = load_segmentation_data(str(tmp_path), bands=bands)
    row = data["train"][0]
    assert data.bands == bands and (row["image"] == values[int(row["id"])][..., expected]).all()


@pytest.mark.parametrize("photometric", ["rgb", "minisblack"])
def test_the_colours_of_a_tiff_with_another_band_are_those_it_names(photometric):
    buffer, values = io.BytesIO(), np.dstack([RGB, RGB[..., 0]])
    tifffile.imwrite(
        buffer,
        values,
        photometric=photometric,
        planarconfig="contig",
        extrasamples=["unspecified"] * (1 if photometric == "rgb" else 3),
    )
    if photometric == "rgb":
        assert (decode_image(buffer.getvalue()) == RGB).all()
    else:
        with pytest.raises(DataError, match="4 bands"):
            decode_image(buffer.getvalue())


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colours_that_were_multiplied_by_alpha_are_shown_as_stored(dtype):
    alpha = np.linspace(1, np.iinfo(dtype).max, 32 * 48).reshape(32, 48, 1)
    values = np.dstack([RGB * (alpha / 256), alpha]).astype(dtype)
    values[:4] = 0
    found = read_picture(write_tiff(page(values, photometric=2, extra=[1])))
    np.testing.assert_array_equal(found.values, values[..., :3])


def test_a_fourth_band_that_is_called_alpha_and_is_near_infrared_is_none():
    infrared = np.random.default_rng(1).integers(0, 256, (32, 48, 1), dtype=np.uint8)
    assert (read_picture(write_tiff(page(np.dstack([RGB, infrared]), photometric=2, extra=[2]))).values == RGB).all()
    content = write_tiff(page(np.dstack([RGB, infrared]), photometric=1, extra=[0, 0, 2]))
    with pytest.raises(DataError, match=r"has 4 bands of uint8.*--bands 1 2 3"):
        read_picture(content)
    assert (read_picture(content, bands=(1, 2, 3)).values == RGB).all()
    soft = np.full((32, 48, 1), 255, np.uint8)
    soft[:, :2], soft[:, 2:5] = 0, 100  # a margin with a soft edge
    found = read_picture(write_tiff(page(np.dstack([RGB, soft]), photometric=2, extra=[2]))).values
    assert (found[:, 5:] == RGB[:, 5:]).all() and (found[:, :2] == 0).all()


def test_no_data_of_a_palette_is_an_index():
    image = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4) % 3)
    image.putpalette([0, 0, 0, 2, 2, 2, 90, 60, 30])
    buffer = io.BytesIO()
    image.save(buffer, "TIFF", tiffinfo={42113: "2"})
    indices = np.asarray(image)
    for bands in (None, (1, 2, 3), (1,)):
        assert (read_picture(buffer.getvalue(), bands=bands).valid == (indices != 2)).all()


def test_a_preview_before_the_image_is_passed_over():
    content = write_tiff(page(RGB[::2, ::2], photometric=2, page_type=1), page(RGB, photometric=2))
    assert (decode_image(content) == RGB).all()
    with pytest.raises(DataError, match="2 images of the same size"):
        decode_image(write_tiff(page(RGB, photometric=2), page(RGB, photometric=2)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_decoder_turns_alike(orientation):
    """8-bit JPEG in a TIFF (Pillow), 64-bit floats, 16-bit planes and an internal mask (this package)."""
    tags, parts = page(SMOOTH, photometric=6, part=(32, 48), orientation=orientation)
    jpeg = io.BytesIO()
    Image.fromarray(SMOOTH).save(jpeg, "JPEG", quality=95, subsampling=0)
    by_pillow = read_picture(write_tiff(({**tags, 259: (3, [7])}, [jpeg.getvalue()]))).values.astype(int)
    for dtype in (np.float64, np.uint16):
        options = {"photometric": 2, "planes": True, "orientation": orientation}
        mask = page(SMOOTH[..., :1] > 30, photometric=4, page_type=4)
        picture = read_picture(write_tiff(page(SMOOTH.astype(dtype), **options), mask))
        assert np.abs(picture.values - by_pillow).mean() < 3 and picture.orientation == orientation
        assert (picture.valid == (picture.values[..., 0] > 30)).all()


@pytest.mark.parametrize(
    ("values", "predictor"),
    [(RGB, 2), (np.uint16(RGB[..., :1]) * 250, 2), (np.random.default_rng(0).random((32, 48, 1), np.float32), 3)],
)
@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "zstd"])
def test_what_the_tests_write_is_the_same_for_libtiff(values, predictor, compression):
    photometric = 2 if values.shape[2] == 3 else 1
    content = write_tiff(page(values, photometric=photometric, compression=compression, predictor=predictor))
    with Image.open(io.BytesIO(content)) as image:
        assert (np.asarray(image).reshape(values.shape) == values).all()
