"""What is written into any container reads back to the same arrays, or is refused with the file's name."""

import gzip
import io
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.data.tiff_writer import COMPRESSIONS, page, write_tiff
from tests.data.wide_png import wide_png
from topolora_hf import DataError
from topolora_hf.data.images.masks import decode_mask
from topolora_hf.data.images.pictures import decode_image, read_picture

EXAMPLES = pytest.mark.parametrize("examples", [25, pytest.param(2000, marks=pytest.mark.slow)])
TURNS = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
    8: np.rot90,
}
TYPES = ["bool", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]
PILLOWS = {  # number of bands that a format keeps exactly, and how it is told to
    "PNG": ((1, 2, 3, 4), {}),
    "BMP": ((1, 3), {}),
    "PPM": ((1, 3), {}),
    "GIF": ((1,), {}),
    "WEBP": ((3,), {"lossless": True}),
    "JPEG2000": ((1, 3), {"irreversible": False}),
    "TIFF": ((1, 2, 3, 4), {}),
}


@dataclass
class Case:
    """A file, and what is in it: (H, W, bands) upright, whether the last band is alpha, and where there is data."""

    name: str
    content: bytes
    values: np.ndarray
    has_alpha: bool = False
    valid: np.ndarray | None = None
    options: dict = field(default_factory=dict)


def numbers(draw, dtype, shape, is_mask=False):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = np.dtype(dtype)
    if is_mask or dtype.kind == "b":
        top = 1 if dtype.kind in "bf" else draw(st.sampled_from([1, min(255, np.iinfo(dtype).max)]))
        return ((rng.random(shape) < 0.3) * top).astype(dtype)
    if dtype.kind == "f":
        return (rng.normal(size=shape) * draw(st.sampled_from([1e-3, 1, 1e3]))).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def opaque_or_not(alpha):
    """Half-transparent pixels all over would be another band than alpha, in a TIFF."""
    return np.where(alpha % 2, np.iinfo(alpha.dtype).max, 0).astype(alpha.dtype)


@st.composite
def tiffs(draw, is_mask=False):
    dtype, count = draw(st.sampled_from(TYPES)), 1 if is_mask else draw(st.integers(1, 6))
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    values = numbers(draw, dtype, (height, width, count), is_mask)
    options = {
        "order": draw(st.sampled_from("<>")),
        "compression": draw(st.sampled_from(sorted(COMPRESSIONS))),
        "predictor": draw(st.sampled_from({"f": [1, 3], "b": [1]}.get(values.dtype.kind, [1, 2]))),
        "planes": dtype == "bool" or draw(st.booleans()),
        "part": draw(st.sampled_from([(0, 0), (1, 0), (7, 0), (16, 16), (32, 16)])),
        "photometric": draw(st.sampled_from([0, 1, 2] if count in (3, 4) else [0, 1])),
        "orientation": draw(st.integers(1, 8)),
    }
    has_alpha = count in (2, 4) and dtype not in ("bool", "f2", "f4", "f8") and dtype[0] == "u" and draw(st.booleans())
    if has_alpha:  # which white of 0 would leave as it is
        options["photometric"] = max(1, options["photometric"])
        values[..., -1] = opaque_or_not(values[..., -1])
    colours = 3 if options["photometric"] == 2 else 1
    if count > colours:
        options["extra"] = [0] * (count - colours - 1) + [2 if has_alpha else 0]
    valid = None
    if draw(st.booleans()) and dtype != "bool" and not is_mask:
        value = values[0, 0, 0]
        options["nodata"] = repr(float(value)) if values.dtype.kind == "f" else str(value)
        values[draw(st.integers(0, height - 1)) :, : width // 2] = value
        shown = values[..., : 3 if colours == 3 else count - has_alpha]
        valid = ~(shown == value).all(axis=2)
    first = page(values, **options)
    pages = [first]
    if draw(st.booleans()) and not is_mask:
        mask = numbers(draw, bool, (height, width, 1))
        kinds = {"photometric": 4, "page_type": 4, "compression": options["compression"]}
        pages.append(page(mask, order=options["order"], **kinds))
        valid = mask[..., 0] if valid is None else valid & mask[..., 0]
    if draw(st.booleans()):
        pages.append(page(values[::2, ::2], **{**options, "page_type": 1}))
    turn, is_white = TURNS[options["orientation"]], options["photometric"] == 0
    if is_white and values.dtype.kind in "bu":
        values = ~values
    valid = None if valid is None else turn(valid)
    return Case("a.tif", write_tiff(*pages, order=options["order"]), turn(values), has_alpha, valid, options)


@st.composite
def others(draw, is_mask=False):
    name = draw(st.sampled_from([*PILLOWS, "npy", "16-bit PNG"]))
    count, dtype = 1 if is_mask else draw(st.integers(1, 4)), draw(st.sampled_from(["bool", "u1", "u2"]))
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    if name == "npy":
        values = numbers(draw, draw(st.sampled_from(TYPES)), (height, width, count), is_mask)
        buffer = io.BytesIO()
        np.save(buffer, np.asarray(values[..., 0] if count == 1 else values, order=draw(st.sampled_from("CF"))))
        return Case("a.npy", buffer.getvalue(), values)
    orientation = draw(st.integers(1, 8))
    if name == "16-bit PNG" and count > 2:
        values = numbers(draw, "u2", (height, width, count))
        return Case("a.png", wide_png(values), values, has_alpha=count == 4)
    allowed, options = PILLOWS.get(name, PILLOWS["PNG"])
    count = count if count in allowed else allowed[-1]
    dtype = dtype if count == 1 and name in ("PNG", "TIFF") else "u1"
    values = numbers(draw, dtype, (height, width, count), is_mask)
    if is_mask:
        values = np.repeat(values[..., :1], count, axis=2)
    if name == "TIFF" and count in (2, 4):
        values[..., -1] = opaque_or_not(values[..., -1])
    exif = Image.Exif()
    exif[0x0112] = orientation
    if name in ("PNG", "WEBP", "TIFF"):
        options = {**options, "exif": exif}
    buffer = io.BytesIO()
    Image.fromarray(values[..., 0] if count == 1 else values).save(
        buffer, name if name in PILLOWS else "PNG", **options
    )
    turn = TURNS[orientation if "exif" in options else 1]
    suffix = {"JPEG2000": "jp2", "TIFF": "tif", "16-bit PNG": "png"}.get(name, name.lower())
    return Case(f"a.{suffix}", buffer.getvalue(), turn(values), has_alpha=count in (2, 4))


def written(case: Case, folder, packed: bool):
    """The file, or its bytes packed, which a .npy cannot be."""
    path = folder / (case.name + ".gz" * (packed and case.name != "a.npy"))
    path.write_bytes(gzip.compress(case.content, 1) if path.suffix == ".gz" else case.content)
    return path


def as_picture(values, has_alpha):
    """What `read_picture` gives of these: RGB over black for 8 bits, the numbers themselves for more."""
    is_wide = values.dtype not in (bool, np.uint8)
    values = values * np.uint8(255) if values.dtype == bool else values
    if has_alpha:
        alpha = np.rint(values[..., -1:] * (255 / np.iinfo(values.dtype).max)) / 255
        values = np.rint(values[..., :-1] * alpha)
    if values.shape[2] == 1:
        values = values[..., 0] if is_wide else np.repeat(values, 3, axis=2)
    return values.astype(np.float64)


@EXAMPLES
@pytest.mark.parametrize("cases", [tiffs, others])
def test_images_read_back_or_are_refused_by_name(tmp_path, examples, cases):
    @settings(max_examples=examples, deadline=None, derandomize=True)
    @given(cases(), st.booleans())
    def check(case, packed):
        path, count = written(case, tmp_path, packed), case.values.shape[2]
        colours = 3 if case.options.get("photometric") == 2 else count - case.has_alpha
        bands = tuple(np.random.default_rng(count).integers(1, count + 1, 3).tolist())
        with pytest.raises(DataError, match=rf"{path}: has \d band\(s\), and bands 1 99 1 are asked for"):
            read_picture(path, bands=(1, 99, 1))
        if case.valid is not None and not case.valid.any():
            with pytest.raises(DataError, match=f"{path}: has no valid pixel"):
                read_picture(path, bands=None if colours in (1, 3) else bands)
            return
        valid = np.ones(case.values.shape[:2], bool) if case.valid is None else case.valid
        if "nodata" not in case.options:
            expected = as_picture(case.values[..., [band - 1 for band in bands]], has_alpha=False)
            np.testing.assert_array_equal(read_picture(path, bands=bands).values[valid], expected[valid])
        if colours not in (1, 3):
            with pytest.raises(DataError, match=rf"{path}: has {colours} bands.*--bands"):
                read_picture(path)
            return
        picture = read_picture(path)
        np.testing.assert_array_equal(np.ones_like(valid) if picture.valid is None else picture.valid, valid)
        shown = case.values if case.has_alpha else case.values[..., :colours]
        difference = np.abs(picture.values.astype(np.float64) - as_picture(shown, case.has_alpha))[valid]
        assert (difference <= case.has_alpha * (1 + 1e-6 * shown.max())).all()
        image = decode_image(path)
        assert image.dtype == np.uint8 and image.shape == (*valid.shape, 3) and not image[~valid].any()

    check()


@EXAMPLES
@pytest.mark.parametrize("cases", [tiffs, others])
def test_masks_of_two_levels_read_back_or_are_refused_by_name(tmp_path, examples, cases):
    @settings(max_examples=examples, deadline=None, derandomize=True)
    @given(cases(is_mask=True), st.booleans())
    def check(case, packed):
        path = written(case, tmp_path, packed)
        try:
            mask = decode_mask(path)
        except DataError as error:
            assert str(path) in str(error) and case.options.get("photometric") == 0
        else:
            np.testing.assert_array_equal(mask, case.values[..., 0] > 0)

    check()
