"""What claims to be absurdly large is refused before room is made for it, and the limit can be raised."""

import gzip
import io
import resource
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from topolora_hf.data.errors import DataError
from topolora_hf.data.images.masks import decode_mask
from topolora_hf.data.images.pictures import decode_image
from topolora_hf.data.loading import load_segmentation_data

LIMIT = "TOPOLORA_MAX_IMAGE_PIXELS"


@pytest.fixture
def little_memory():
    """No more than 400 MB beyond what this process has."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def png(width, height, rows_there=None):
    """A grey PNG of zeros, without an array of it: a few kilobytes. It may hold fewer rows than it claims."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + width)) for _ in range(rows_there or height))
    rows += packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def npy(shape, dtype="<f8"):
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()


def tiff(side):
    """The header of a TIFF of that many pixels a side, of a kind that Pillow cannot read (64-bit numbers)."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((16, 16), np.float64))
    with tifffile.TiffFile(io.BytesIO(buffer.getvalue())) as file:
        tags = [file.pages[0].tags[name] for name in ("ImageWidth", "ImageLength", "RowsPerStrip")]
        places = [(tag.valueoffset, tag.dtype) for tag in tags]
    content = bytearray(buffer.getvalue())
    for offset, kind in places:
        struct.pack_into("<H" if kind == 3 else "<I", content, offset, side)
    return bytes(content)


ABSURD = {
    "png": (lambda: png(100_000, 100_000, 1), "a.png", "has 100,000 x 100,000 pixels, more than the 200,000,000"),
    "png just over": (lambda: png(20_000, 15_000, 1), "a.png", "has 20,000 x 15,000 pixels, more than"),
    "tiff": (lambda: tiff(60_000), "a.tif", "has 60,000 x 60,000 pixels, more than"),
}


@pytest.mark.parametrize("decode", [decode_image, decode_mask])
@pytest.mark.parametrize("kind", ABSURD)
def test_an_absurd_image_is_refused_with_its_name_and_what_raises_the_limit(tmp_path, kind, decode):
    make, name, message = ABSURD[kind]
    (tmp_path / name).write_bytes(make())
    with pytest.raises(DataError, match=rf"{tmp_path / name}: {message}.*{LIMIT}"):
        decode(tmp_path / name)
    with pytest.raises(DataError, match=f"an upload: {message}"):
        decode(make(), "an upload")


def test_a_row_of_an_absurd_image_can_be_skipped(make_pairs, tmp_path, monkeypatch):
    make_pairs(tmp_path, 6)
    (tmp_path / "images/002.png").write_bytes(png(2_000, 1_000))
    monkeypatch.setenv(LIMIT, "1_000_000")
    with pytest.raises(DataError, match=r"1 of 6 rows.*\n.*images/002.png: has 2,000 x 1,000 pixels"):
        load_segmentation_data(str(tmp_path))
    assert sum(map(len, load_segmentation_data(str(tmp_path), skip_bad=True).values())) == 5


def test_the_limit_can_be_raised_and_pillow_keeps_its_own(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(png(300, 200))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000)  # as a program may have set it: not our limit
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode_image(tmp_path / "a.png").shape == (200, 300, 3)
    assert Image.MAX_IMAGE_PIXELS == 1_000
    monkeypatch.setenv(LIMIT, "59,999")
    with pytest.raises(DataError, match="300 x 200 pixels, more than the 59,999 pixels allowed"):
        decode_image(tmp_path / "a.png")
    assert Image.MAX_IMAGE_PIXELS == 1_000
    monkeypatch.setenv(LIMIT, "60000")
    assert decode_mask(tmp_path / "a.png").shape == (200, 300)


@pytest.mark.parametrize("value", ["0", "-1", "many", "1e9", "9" * 30])
def test_a_limit_that_is_no_number_is_named(monkeypatch, value):
    monkeypatch.setenv(LIMIT, value)
    with pytest.raises(DataError, match=f"{LIMIT} must be a positive whole number, got '{value}'"):
        decode_image(png(3, 2))


@pytest.mark.slow  # 8 seconds
def test_a_large_remote_sensing_image_is_read_once_the_limit_is_raised(tmp_path, monkeypatch):
    """20,000 x 15,000 pixels, as one bit each so that it takes little of the machine."""
    Image.new("1", (20_000, 15_000)).save(tmp_path / "a.tif", compression="group4")
    monkeypatch.setenv(LIMIT, "300000000")
    assert decode_mask(tmp_path / "a.tif").shape == (15_000, 20_000)


def test_a_compressed_file_may_not_unpack_to_more_than_an_image_has(tmp_path, monkeypatch):
    monkeypatch.setenv(LIMIT, "1000")
    (tmp_path / "a.ppm.gz").write_bytes(gzip.compress(b"P5 10 10 255\n" + bytes(4_000)))
    with pytest.raises(DataError, match=rf"a.ppm.gz: unpacks to more than 4,000 bytes.*{LIMIT} \(now 1,000\)"):
        decode_image(tmp_path / "a.ppm.gz")


def test_a_strip_that_swells_is_unpacked_no_further_than_its_pixels(little_memory):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((64, 64), np.float64), compression="zlib")
    assert decode_mask(buffer.getvalue()).shape == (64, 64)
    with tifffile.TiffFile(io.BytesIO(buffer.getvalue())) as file:
        page = file.pages[0]
        offset, count = (page.tags[name].valueoffset for name in ("StripOffsets", "StripByteCounts"))
    packer = zlib.compressobj(1)
    start = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    bomb = start + 500 * (packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH))  # each unpacks alone
    content = bytearray(buffer.getvalue())
    struct.pack_into("<I", content, offset, len(content))
    struct.pack_into("<I", content, count, len(bomb))
    assert decode_mask(bytes(content) + bomb).shape == (64, 64)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy((4_000, 4_000)) + bytes(64), "a.npy: cannot be read as an image .*greater than file size"),
        (npy((2**20, 2**20)) + bytes(64), "a.npy: cannot be read as an image"),
        (npy((-1, 4)) + bytes(64), "a.npy: "),
        (npy((4, 4), "|O") + bytes(64), "a.npy: "),
        (b"\x93NUMPY\x01\x00" + struct.pack("<H", 9_000) + b"(" * 9_000, "a.npy: "),
        (b"\x93NUMPY\x07\x00" + bytes(64), "a.npy: "),
    ],
)
def test_a_npy_file_that_claims_what_is_not_there_is_named(tmp_path, content, message):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(DataError, match=message):
        decode_image(tmp_path / "a.npy")
    with pytest.raises(DataError, match="is a .npy file inside another"):
        decode_image(content)


def test_a_npy_file_has_the_same_limit(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.zeros((20, 30)))
    monkeypatch.setenv(LIMIT, "599")
    with pytest.raises(DataError, match="30 x 20 pixels, more than the 599 pixels allowed"):
        decode_mask(tmp_path / "a.npy")


def test_formats_that_run_programs_are_not_opened_whatever_they_are_called(tmp_path):
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    (tmp_path / "a.png").write_bytes(eps)
    with Image.open(tmp_path / "a.png") as opened:
        assert opened.format == "EPS"  # left alone, Pillow would start Ghostscript on it
    with pytest.raises(DataError, match="unknown format"):
        decode_image(tmp_path / "a.png")


def test_a_strip_far_beyond_the_end_of_the_file_is_refused(tmp_path):
    """Planes of their own: Pillow would make room for two gigabytes to reach the second (found by fuzzing)."""
    buffer = io.BytesIO()
    planes = np.zeros((3, 13, 17), np.uint16)
    tifffile.imwrite(buffer, planes, photometric="rgb", planarconfig="separate")
    content = buffer.getvalue()
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        second = struct.pack("<I", file.pages[0].dataoffsets[1])
    (tmp_path / "a.tif").write_bytes(content.replace(second, struct.pack("<I", 2**31 + 730)))
    for source in (tmp_path / "a.tif", (tmp_path / "a.tif").read_bytes()):
        with pytest.raises(DataError, match="claims to hold pixels from byte 2,147,484,378 on, but has"):
            decode_image(source)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", npy((2**13, 2**14)), "greater than file size"),  # 1 GiB announced, nothing there
        ("a.png", png(100_000, 100_000, 1), "100,000 x 100,000 pixels"),
        ("a.ppm", b"P6 14000 14000 255\n", "there is not enough memory to decode it"),  # 588 MB: within the limit
    ],
)
def test_a_file_that_asks_for_more_memory_than_there_is_is_named(tmp_path, little_memory, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: .*{message}"):
        decode_image(tmp_path / name)
