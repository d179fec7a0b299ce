"""What users hand in by mistake: every kind is a clear error that names the file, or a reported skip."""

import gzip
import zipfile

import numpy as np
import pytest
from PIL import Image

from topolora_hf.data.errors import DataError
from topolora_hf.data.images.masks import decode_mask
from topolora_hf.data.images.pictures import decode_image
from topolora_hf.data.loading import load_segmentation_data
from topolora_hf.data.records import Layout


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def grey_png(path, array):
    Image.fromarray(array).save(path)


def stack(path, frames=3, file_format="TIFF"):
    pages = [Image.fromarray(np.full((24, 20), 60 * number, np.uint8)) for number in range(frames)]
    pages[0].save(path, file_format, save_all=True, append_images=pages[1:])


def coloured_palette(path):
    image = Image.fromarray(np.arange(24 * 20, dtype=np.uint8).reshape(24, 20) % 4, mode="P")
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(path)


CLASSES = np.tile(np.array([0, 1, 2, 3], np.uint8), (24, 5))

# What is done to image or mask 2 of six, the kind under which it is reported, and a part of the text.
DAMAGES = {
    "image missing its end": ("images", cut, "unreadable image", "images/002.png"),
    "image is empty": ("images", lambda path: path.write_bytes(b""), "unreadable image", "images/002.png"),
    "image is text": ("images", lambda path: path.write_text("hello"), "unreadable image", "unknown format"),
    "image is a web page": ("images", lambda path: path.write_text("<html>"), "unreadable image", "unknown format"),
    "image is a stack": ("images", stack, "unreadable image", "holds 3 images of the same size"),
    "image is an animation": ("images", lambda path: stack(path, 2, "GIF"), "unreadable image", "holds 2 images"),
    "image of another size": ("images", lambda p: grey_png(p, np.ones((24, 21), np.uint8)), "differ in size", "21x24"),
    "image turned": ("images", lambda p: grey_png(p, np.ones((20, 24), np.uint8)), "differ in size", "24x20"),
    "image of no bytes, other format": (
        "images", lambda p: (p.unlink(), p.with_suffix(".bmp").touch()), "unreadable image", "002.bmp",
    ),
    "mask missing its end": ("masks", cut, "unreadable mask", "masks/002.png"),
    "mask is empty": ("masks", lambda path: path.write_bytes(b""), "unreadable mask", "masks/002.png"),
    "mask is absent": ("masks", lambda path: path.unlink(), "no mask", "images/002.png"),
    "mask of class indices": ("masks", lambda p: grey_png(p, CLASSES), "read in several ways", "1 (25 %), 2 (25 %), 3"),
    "mask of coloured classes": ("masks", coloured_palette, "in several ways", "has several colours: #000000"),
    "mask of another size": ("masks", lambda p: grey_png(p, np.ones((48, 40), np.uint8)), "differ in size", "40x48"),
    "mask is a stack": ("masks", stack, "unreadable mask", "one image a file"),
    "mask is a folder": ("masks", lambda p: (p.unlink(), p.mkdir()), "no mask", "images/002.png"),
    "image copied": (
        "images", lambda p: p.write_bytes((p.parent / "004.png").read_bytes()), "there twice", "004.png = images/002",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_bad_row_is_reported_and_can_be_skipped(make_pairs, tmp_path, damage):
    part, spoil, kind, text = DAMAGES[damage]
    make_pairs(tmp_path, 6)
    spoil(tmp_path / part / "002.png")
    with pytest.raises(DataError) as caught:
        load_segmentation_data(str(tmp_path))
    assert "1 of 6 rows cannot be used" in str(caught.value)
    assert kind in str(caught.value) and text in str(caught.value) and "skip_bad" in str(caught.value)
    assert sum(map(len, load_segmentation_data(str(tmp_path), skip_bad=True).values())) == 5


def save_npy(path, array):
    np.save(path, array)
    return path


UNREADABLE = {
    "npy of objects": lambda p: save_npy(p / "a.npy", np.array([{}])),
    "npy of four dimensions": lambda p: save_npy(p / "a.npy", np.zeros((1, 4, 4, 3))),
    "npy of channels first": lambda p: save_npy(p / "a.npy", np.zeros((3, 40, 40))),
    "npy without pixels": lambda p: save_npy(p / "a.npy", np.zeros((0, 4))),
    "npy of text": lambda p: save_npy(p / "a.npy", np.array([["a", "b"]])),
    "npy of complex numbers": lambda p: save_npy(p / "a.npy", np.zeros((4, 4), complex)),
    "gz of text": lambda p: (p / "a.ppm.gz").write_bytes(gzip.compress(b"hello")) and p / "a.ppm.gz",
    "gz that is none": lambda p: (p / "a.ppm.gz").write_bytes(b"hello") and p / "a.ppm.gz",
    "gz missing its end": lambda p: (p / "a.ppm.gz").write_bytes(gzip.compress(bytes(9999))[:-9]) and p / "a.ppm.gz",
    "a folder": lambda p: p,
}


@pytest.mark.parametrize("decode", [decode_image, decode_mask])
@pytest.mark.parametrize("kind", UNREADABLE)
def test_unreadable_files_are_named(tmp_path, kind, decode):
    path = UNREADABLE[kind](tmp_path)
    with pytest.raises(DataError, match=str(path)):
        decode(path)


def test_an_image_of_nothing_finite_is_named(tmp_path):
    with pytest.raises(DataError, match="a.npy: has no valid pixel"):
        decode_image(save_npy(tmp_path / "a.npy", np.full((4, 4), np.nan)))


CALLS = {
    "unknown name": (("drvie",), {}, "unknown data set 'drvie'"),
    "no such folder": (("folder", "absent"), {}, "absent does not exist"),
    "neither folder nor archive": (("drive", "notes.txt"), {}, "is neither a folder nor an archive"),
    "archive of another kind": (("drive", "set.rar"), {}, "cannot be read here: unpack it"),
    "not an archive": (("drive", "fake.zip"), {}, "not a whole zip or tar archive"),
    "empty archive": (("folder", "empty.zip"), {}, "Found: nothing"),
    "empty folder": (("folder", "nothing"), {}, "Found: nothing"),
    "folder of other files": (("folder", "papers"), {}, "Found: thesis.pdf"),
    "image_dir absent": (("folder", "set"), {"layout": Layout(image_dir="pics")}, "Found: images/, masks/"),
    "mask_dir absent": (("folder", "set"), {"layout": Layout(mask_dir="gt")}, "mask_dir 'gt'.*has no such folder"),
    "valid_mask_dir absent": (("folder", "set"), {"layout": Layout(valid_mask_dir="v")}, "valid_mask_dir 'v'"),
    "pattern fits nothing": (("folder", "set"), {"layout": Layout(image_pattern="x{stem}")}, "no image named like"),
    "mask pattern fits nothing": (("folder", "set"), {"layout": Layout(mask_pattern="x{stem}")}, "mask_pattern"),
    "unknown fov": (("folder", "set"), {"fov": "disc"}, "no fov 'disc'; allowed: auto, given, none"),
    "unknown split": (("folder", "set"), {"split": "mine"}, "no split 'mine'"),
    "unknown protocol": (("folder", "set"), {"protocol": "mine"}, "no protocol 'mine'"),
    "unknown annotator": (("folder", "set"), {"annotator": 0}, "no annotator 0; allowed: 1"),
    "whole set held out": (("folder", "set"), {"validation_fraction": 1.0}, r"in \[0, 1\), got 1.0"),
    "path and data_dir": (("set", "set"), {}, "is a path already"),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_call_says_what_is_allowed(make_pairs, tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    make_pairs(tmp_path / "set", 6)
    (tmp_path / "nothing").mkdir()
    (tmp_path / "papers").mkdir()
    for name in ("notes.txt", "set.rar", "fake.zip", "papers/thesis.pdf"):
        (tmp_path / name).write_text("hello")
    zipfile.ZipFile(tmp_path / "empty.zip", "w").close()
    args, options, message = CALLS[call]
    with pytest.raises(DataError, match=f"(?s){message}"):
        load_segmentation_data(*args, **options)
