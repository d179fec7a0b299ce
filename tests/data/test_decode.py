import gzip
import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.data.wide_png import wide_png
from topolora_hf.data.errors import DataError
from topolora_hf.data.images.masks import decode_mask
from topolora_hf.data.images.pictures import decode_image, read_picture

PICTURE = np.zeros((20, 30, 3), np.uint8)
PICTURE[:10, :15] = (200, 40, 90)
PICTURE[10:, 15:] = (30, 160, 250)
SHAPE = np.zeros((20, 30), np.uint8)
SHAPE[4:15, 6:22] = 1


def encode(image: Image.Image, file_format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp", "ppm", "webp", "gif"])
def test_colour_files_of_every_format_read_as_rgb(tmp_path, suffix):
    path = tmp_path / f"picture.{suffix}"
    Image.fromarray(PICTURE).save(path, **({"quality": 95} if suffix in ("jpg", "webp") else {}))
    image = decode_image(path)
    assert image.dtype == np.uint8 and image.shape == PICTURE.shape
    assert np.abs(image.astype(int) - PICTURE).mean() < 6


def test_compressed_files_and_arrays_read_like_others(tmp_path):
    (tmp_path / "a.ppm.gz").write_bytes(gzip.compress(encode(Image.fromarray(PICTURE), "PPM")))
    np.save(tmp_path / "b.npy", PICTURE)
    for name in ("a.ppm.gz", "b.npy"):
        assert (decode_image(tmp_path / name) == PICTURE).all()
    for number, mask in enumerate((SHAPE, SHAPE > 0, SHAPE[..., None] * 255, SHAPE.astype(float))):
        np.save(tmp_path / f"{number}.npy", mask)
        assert (decode_mask(tmp_path / f"{number}.npy") == SHAPE).all()
    np.save(tmp_path / "grey.npy", SHAPE > 0)
    assert (decode_image(tmp_path / "grey.npy") == SHAPE[..., None] * 255).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK"])
def test_every_mode_reads_as_rgb(mode):
    file_format = "JPEG" if mode == "CMYK" else "PNG"
    converted = Image.fromarray(PICTURE).convert(mode)
    image = decode_image(encode(converted, file_format))
    assert image.shape == PICTURE.shape
    expected = np.asarray(converted.convert("RGB")).astype(int)
    assert np.abs(image - expected).mean() < 4


def test_transparent_pixels_are_black():
    rgba = np.dstack([PICTURE, np.full((20, 30), 255, np.uint8)])
    rgba[:5, :, 3] = 0
    image = decode_image(encode(Image.fromarray(rgba), "PNG"))
    assert (image[:5] == 0).all() and (image[5:] == PICTURE[5:]).all()


def test_exif_orientation_turns_image_and_mask_alike():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: to be shown turned by 90 degrees clockwise
    turned = decode_image(encode(Image.fromarray(PICTURE), "JPEG", exif=exif, quality=95))
    assert np.abs(turned.astype(int) - np.rot90(PICTURE, -1)).mean() < 6
    mask = decode_mask(encode(Image.fromarray(SHAPE * 255), "JPEG", exif=exif))
    assert (mask == np.rot90(SHAPE, -1)).all()


def test_16_bit_grey_keeps_its_order_and_does_not_wrap():
    ramp = np.linspace(0, 5800, 600).astype(np.uint16).reshape(20, 30)
    image = decode_image(encode(Image.fromarray(ramp), "TIFF"))
    assert (image == image[..., :1]).all()
    assert (np.diff(image[..., 0].ravel().astype(int)) >= 0).all()
    assert image.min() == 0 and image.max() == 255


def test_8_bit_values_in_a_16_bit_file_keep_their_scale():
    values = np.arange(100, dtype=np.uint16).reshape(10, 10)
    assert (decode_image(encode(Image.fromarray(values), "PNG"))[..., 0] == values).all()


def test_16_bit_colour_and_float_tiffs_are_read(tmp_path):
    colour = (PICTURE.astype(np.uint16) * 257).astype(np.uint16)
    tifffile.imwrite(tmp_path / "colour.tif", colour, photometric="rgb")
    assert np.abs(decode_image(tmp_path / "colour.tif").astype(int) - PICTURE).mean() < 8
    floats = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)
    floats[0, 0] = np.nan
    tifffile.imwrite(tmp_path / "floats.tif", floats)
    assert np.abs(decode_image(tmp_path / "floats.tif")[..., 0] - np.nan_to_num(floats) * 255).max() <= 0.5


TWELVE_BITS = np.random.default_rng(0).integers(0, 4096, (20, 30, 3), dtype=np.uint16)


def wide_tiff(values: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, photometric="rgb", **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "file",
    [
        wide_png(TWELVE_BITS),
        wide_png(np.concatenate([TWELVE_BITS, np.full((20, 30, 1), 65535, np.uint16)], axis=2)),
        wide_tiff(TWELVE_BITS),
        wide_tiff(TWELVE_BITS, byteorder=">"),
        wide_tiff(TWELVE_BITS, compression="zlib", predictor=True),
        wide_tiff(TWELVE_BITS.transpose(2, 0, 1), planarconfig="separate"),
        wide_tiff(TWELVE_BITS.transpose(2, 0, 1), planarconfig="separate", compression="zlib"),
    ],
    ids=["png", "opaque png", "tiff", "other order", "packed", "planes", "packed planes"],
)
def test_16_bit_colour_keeps_all_of_its_bits(file):
    np.testing.assert_array_equal(read_picture(file).values, TWELVE_BITS)
    darkest, brightest = np.percentile(decode_image(file), (1, 99))
    assert darkest < 5 and brightest > 250


def test_transparent_pixels_of_16_bit_colour_are_black():
    alpha = np.zeros((20, 30, 1), np.uint16)
    alpha[:10] = 65535
    found = read_picture(wide_png(np.concatenate([TWELVE_BITS, alpha], axis=2))).values
    assert not found[10:].any()
    np.testing.assert_array_equal(found[:10], TWELVE_BITS[:10])


def test_16_bit_grey_with_transparency_is_refused():
    with pytest.raises(DataError, match="16 bits, of which Pillow keeps 8"):
        decode_image(wide_png(TWELVE_BITS[..., :2]))


@pytest.mark.parametrize("high", [1, 255, 4095, 65535])
def test_masks_in_16_bit_colour_read_like_others(high):
    levels = np.repeat(SHAPE[..., None], 3, axis=2) * np.uint16(high)
    for file in (wide_png(levels), wide_tiff(levels)):
        assert (decode_mask(file) == SHAPE).all()


@pytest.mark.parametrize("high", [1, 255])
@pytest.mark.parametrize("file_format", ["PNG", "GIF", "TIFF", "BMP"])
def test_masks_of_0_and_1_and_of_0_and_255_read_alike(file_format, high):
    assert (decode_mask(encode(Image.fromarray(SHAPE * np.uint8(high)), file_format)) == SHAPE).all()


@pytest.mark.parametrize("number_type", [np.int8, np.uint32, np.int64, np.float32, np.float64])
def test_masks_are_read_from_tiffs_of_every_number_type(tmp_path, number_type):
    mask = np.zeros((20, 30), dtype=np.uint8)
    mask[5:9] = 1
    tifffile.imwrite(tmp_path / "mask.tif", mask.astype(number_type))
    assert (decode_mask(tmp_path / "mask.tif") == mask).all()


def test_jpeg_noise_around_0_and_255_is_cut_at_half():
    noisy = encode(Image.fromarray(SHAPE * 255), "JPEG", quality=60)
    assert len(np.unique(np.asarray(Image.open(io.BytesIO(noisy))))) > 2
    assert (decode_mask(noisy) == SHAPE).mean() > 0.99


def test_noise_of_an_empty_jpeg_mask_is_not_foreground():
    noise = np.random.default_rng(0).integers(0, 3, (20, 30), dtype=np.uint8)
    assert not decode_mask(encode(Image.fromarray(noise), "JPEG", quality=100)).any()


@pytest.mark.parametrize("decode", [decode_image, decode_mask])
def test_broken_files_are_named(tmp_path, decode):
    whole = encode(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)), "PNG")
    for name, content in {"cut.png": whole[: len(whole) // 2], "text.png": b"not an image", "empty.png": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name):
            decode(tmp_path / name)
    with pytest.raises(DataError, match="absent.png: no such file"):
        decode(tmp_path / "absent.png")


def test_a_tiff_whose_pages_lead_round_in_circles_is_read_by_its_first_two():
    """Of a kind that only tifffile reads; following the chain would never end."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for side in (20, 10, 6):
            writer.write(np.full((side, side), 7, np.float64), photometric="minisblack")
    content = bytearray(buffer.getvalue())
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        second, last = file.pages[1].offset, file.pages[2].offset
        entries = int.from_bytes(content[last : last + 2], "little")
    content[last + 2 + 12 * entries : last + 6 + 12 * entries] = second.to_bytes(4, "little")
    assert (decode_mask(bytes(content)) == 1).all() and decode_mask(bytes(content)).shape == (20, 20)


def test_stacks_of_wide_numbers_are_refused():
    for options in ({}, {"imagej": True}):
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, np.zeros((5, 8, 8), np.float32 if options else np.float64), **options)
        with pytest.raises(DataError, match="stack"):
            decode_mask(buffer.getvalue())
