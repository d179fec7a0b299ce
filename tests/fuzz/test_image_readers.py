"""Whatever bytes an image file holds, it is an image or one named error: no other exception, no hang, no swelling."""

import gzip
import io
import logging
import random
import struct
import warnings
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import strategies as st
from PIL import Image, features

from topolora_hf.data.errors import DataError
from topolora_hf.data.images.masks import decode_mask
from topolora_hf.data.images.pictures import decode_image

RNG = np.random.default_rng(0)
COLOUR = Image.fromarray(RNG.integers(0, 256, (13, 17, 3), dtype=np.uint8))
GREY, DISC = COLOUR.convert("L"), Image.fromarray(np.uint8(255) * (np.hypot(*np.mgrid[-6:7, -8:9]) < 5))
SIXTEEN = Image.fromarray(RNG.integers(0, 65536, (13, 17), dtype=np.uint16))
FLOAT = Image.fromarray(RNG.random((13, 17)).astype(np.float32))


def saved(image, file_format, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def array(values, order="C") -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(values, order=order))
    return buffer.getvalue()


def scientific(values, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def seeds() -> dict[str, bytes]:
    """Whole files of every kind that is read, by a name whose suffix says which."""
    turned = Image.Exif()
    turned[0x0112] = 6
    files = {}
    for mode in ("1", "L", "P", "LA", "RGB", "RGBA"):
        files[f"{mode}.png"] = saved(COLOUR.convert(mode), "PNG")
    files |= {"16.png": saved(SIXTEEN, "PNG"), "disc.png": saved(DISC.convert("1"), "PNG")}
    files["key.png"] = saved(COLOUR.convert("P"), "PNG", transparency=3)
    files["several.png"] = saved(COLOUR, "PNG", save_all=True, append_images=[COLOUR])
    files["exif.png"] = saved(COLOUR, "PNG", exif=turned)
    for mode in ("L", "RGB", "CMYK"):
        files[f"{mode}.jpg"] = saved(COLOUR.convert(mode), "JPEG")
    files |= {
        "progressive.jpg": saved(COLOUR, "JPEG", progressive=True),
        "exif.jpg": saved(COLOUR, "JPEG", exif=turned),
    }
    files["stereo.jpg"] = saved(COLOUR, "MPO", save_all=True, append_images=[GREY.convert("RGB").resize((9, 9))])
    for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "LAB", "YCbCr"):
        files[f"{mode}.tif"] = saved(Image.new(mode, (17, 13)) if mode == "LAB" else COLOUR.convert(mode), "TIFF")
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        files[f"{compression}.tif"] = saved(COLOUR, "TIFF", compression=compression)
    files |= {"fax.tif": saved(DISC.convert("1"), "TIFF", compression="group4"), "16.tif": saved(SIXTEEN, "TIFF")}
    files |= {"float.tif": saved(FLOAT, "TIFF"), "pages.tif": saved(GREY, "TIFF", save_all=True, append_images=[GREY])}
    wide = RNG.integers(0, 65536, (13, 17, 3), dtype=np.uint16)
    files |= {"wide.tif": scientific(wide), "big.tif": scientific(wide, bigtiff=True)}
    files |= {"zlib.tif": scientific(wide, compression="zlib"), "double.tif": scientific(np.asarray(FLOAT, np.float64))}
    files |= {
        "tiles.tif": scientific(np.int64(wide[..., 0]), tile=(16, 16)),
        "moto.tif": scientific(wide, byteorder=">"),
    }
    files["planes.tif"] = scientific(wide.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    files |= {
        "P.gif": saved(COLOUR.convert("P"), "GIF"),
        "film.gif": saved(DISC, "GIF", save_all=True, append_images=[GREY]),
    }
    for mode in ("1", "L", "P", "RGB"):
        files[f"{mode}.bmp"] = saved(COLOUR.convert(mode), "BMP")
    for mode in ("1", "L", "RGB"):
        files[f"{mode}.ppm"] = saved(COLOUR.convert(mode), "PPM")
    files |= {"16.pgm": saved(SIXTEEN, "PPM"), "plain.pgm": b"P2\n4 3\n255\n" + b" ".join(b"%d" % n for n in range(12))}
    files["float.pfm"] = saved(FLOAT, "PPM")
    if features.check("webp"):
        files |= {"lossy.webp": saved(COLOUR, "WEBP"), "whole.webp": saved(COLOUR, "WEBP", lossless=True)}
        files |= {"alpha.webp": saved(COLOUR.convert("RGBA"), "WEBP")}
        files["film.webp"] = saved(COLOUR, "WEBP", save_all=True, append_images=[GREY.convert("RGB")])
    if features.check("jpg_2000"):
        files["L.jp2"] = saved(GREY, "JPEG2000")
    pixels = np.asarray(COLOUR)
    kinds = {
        "u1": pixels,
        "bool": np.asarray(DISC) > 0,
        "f4": np.asarray(FLOAT),
        ">u2": np.asarray(SIXTEEN).astype(">u2"),
    }
    files |= {f"{kind}.npy": array(values) for kind, values in kinds.items()} | {"fortran.npy": array(pixels, "F")}
    files["strange.npy"] = array(np.array([[np.nan, np.inf], [-np.inf, 1e30]]))
    for name in ("RGB.ppm", "RGB.png", "wide.tif"):
        files[f"{name}.gz"] = gzip.compress(files[name])
    return files


SEEDS = seeds()


def mend_png(content: bytes) -> bytes:
    """The checksums of its chunks, so that damage gets past them; chunks that do not end are left."""
    mended, at = content[:8], 8
    while at + 12 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        if at + 12 + length > len(content):
            break
        chunk = content[at + 4 : at + 8 + length]
        mended += content[at : at + 4] + chunk + struct.pack(">I", zlib.crc32(chunk))
        at += 12 + length
    return mended + content[at:]


@pytest.fixture
def read(tmp_path, monkeypatch, fuzzer):
    """`read(name, other, damages, is_mended, is_packed)`: both readers on the damaged file; what they gave."""
    monkeypatch.setenv("TOPOLORA_MAX_IMAGE_PIXELS", "1000000")  # of the same code, and quick
    monkeypatch.setattr(logging.getLogger("tifffile"), "disabled", True)

    def both(name, other, damages, is_mended, is_packed):
        content = SEEDS[name]
        if name.endswith(".gz") and is_packed:  # damage inside what is packed
            content = gzip.compress(fuzzer.damaged(gzip.decompress(content), damages, SEEDS[other]), 1)
        else:
            content = fuzzer.damaged(content, damages, SEEDS[other])
        if is_mended and content.startswith(b"\x89PNG"):
            content = mend_png(content)
        path = tmp_path / f"file.{name.split('.', 1)[1]}"
        path.write_bytes(content)
        image, mask = (outcome(decode, path) for decode in (decode_image, decode_mask))
        if image is not None:
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size <= 3_000_000
        if mask is not None:
            assert mask.dtype == np.uint8 and mask.ndim == 2 and mask.max() <= 1
        if image is not None and mask is not None:
            assert image.shape[:2] == mask.shape
        return image, mask

    return both


def outcome(decode, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, on metadata; of numpy, on numbers out of range
        try:
            return decode(path)
        except DataError as error:
            assert str(error).startswith(f"{path}: ")
            assert not isinstance(error.__cause__, MemoryError), "something asked for more room than its file may take"
            return None


NAMES = random.Random(0).sample(sorted(SEEDS), len(SEEDS))  # neighbours are of different kinds
FILES_A_DAMAGE = 10  # thinking of a damage takes hypothesis longer than reading the file does


def test_whole_files_of_every_kind_are_read_or_named(read, fuzzer):
    """The seeds are what they should be: all are images but stacks, animations and what holds no number."""
    unread = {name for name in SEEDS if read(name, name, [], False, False)[0] is None}
    assert unread <= {"several.png", "pages.tif", "film.gif", "film.webp", "planes.tif", "LAB.tif"}


@pytest.mark.parametrize("count", [400, pytest.param(100_000, marks=pytest.mark.slow)])
def test_damaged_image_files_are_read_or_named(read, fuzzer, count):
    numbers = st.integers(0, len(NAMES) - 1)
    strategy = st.tuples(numbers, numbers, fuzzer.DAMAGES, st.booleans(), st.booleans())
    inputs = 0

    def read_several(example):
        nonlocal inputs
        first, other, *damage = example
        for number in range(first, first + FILES_A_DAMAGE):
            read(NAMES[number % len(NAMES)], NAMES[(other + number) % len(NAMES)], *damage)
            inputs += 1

    grown = fuzzer.run(read_several, strategy, count // FILES_A_DAMAGE)
    assert inputs >= count
    print(f"{inputs:,} damaged image files: peak memory grew by {grown / 2**20:.0f} MiB")
