import logging

import numpy as np
import pytest
from PIL import Image

from topolora_hf.data import DataError, load_segmentation_data


@pytest.fixture
def folder(tmp_path):
    """Twelve good rows."""
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        Image.fromarray(rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)).save(tmp_path / f"images/{number:02d}.png")
        mask = np.zeros((32, 40), np.uint8)
        mask[10:12, 5:30] = 255
        Image.fromarray(mask).save(tmp_path / f"masks/{number:02d}.png")
    return tmp_path


def spoil(folder):
    """One row of each kind of damage, 00 to 04."""
    (folder / "masks/00.png").unlink()
    (folder / "masks/01.png").unlink()
    (folder / "images/02.png").write_bytes((folder / "images/02.png").read_bytes()[:1500])  # header intact, data cut
    (folder / "masks/03.png").write_bytes(b"")
    Image.new("L", (41, 32), 255).save(folder / "masks/04.png")


def test_every_problem_is_in_one_report(folder):
    spoil(folder)
    with pytest.raises(DataError) as caught:
        load_segmentation_data(str(folder))
    message = str(caught.value)
    assert "5 of 12 rows" in message
    assert "no mask (2): images/00.png, images/01.png" in message
    assert "unreadable image (1): images/02.png" in message
    assert "unreadable mask (1): masks/03.png" in message
    assert "images/04.png is 40x32, masks/04.png is 41x32" in message
    assert "skip_bad" in message


def test_skip_bad_leaves_those_rows_out_and_names_them(folder, caplog):
    spoil(folder)
    with caplog.at_level(logging.WARNING):
        data = load_segmentation_data(str(folder), skip_bad=True)
    left = sorted(row["id"] for split in data.values() for row in split)
    assert left == [f"{number:02d}" for number in range(5, 12)]
    assert "5 of 12 rows" in caplog.text and "images/01.png" in caplog.text


def test_a_good_folder_gives_no_warning(folder, caplog):
    with caplog.at_level(logging.WARNING):
        load_segmentation_data(str(folder))
    assert not caplog.records


def test_masks_that_belong_to_no_image_are_mentioned(folder, caplog):
    (folder / "images/07.png").unlink()
    with caplog.at_level(logging.WARNING):
        load_segmentation_data(str(folder))
    assert "1 masks belong to no image: 07.png" in caplog.text


def test_one_empty_mask_is_fine_but_not_all_of_them(folder):
    for number in range(12):
        assert sum(map(len, load_segmentation_data(str(folder)).values())) == 12
        Image.new("L", (40, 32)).save(folder / f"masks/{number:02d}.png")
    with pytest.raises(DataError, match=r"no mask .* has any foreground: masks/00.png, .*masks/11.png"):
        load_segmentation_data(str(folder), skip_bad=True)


def test_foreground_is_asked_of_the_rows_that_are_left(folder):
    for number in range(1, 12):
        Image.new("L", (40, 32)).save(folder / f"masks/{number:02d}.png")
    (folder / "images/00.png").write_bytes(b"")  # the only row whose mask shows anything
    with pytest.raises(DataError, match="has any foreground"):
        load_segmentation_data(str(folder), skip_bad=True)


@pytest.mark.parametrize("part", ["images", "masks"])
def test_empty_folders_are_named(folder, part):
    for path in (folder / part).iterdir():
        path.unlink()
    (folder / part / "notes.txt").write_text("")
    with pytest.raises(DataError, match=rf"{part} holds no image file. Found: notes.txt"):
        load_segmentation_data(str(folder))


def test_a_set_of_which_nothing_is_left_is_refused(folder):
    for path in (folder / "images").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="no usable row"):
        load_segmentation_data(str(folder), skip_bad=True)
