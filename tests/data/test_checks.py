import logging

import numpy as np
import pytest
from PIL import Image

from topolora_hf.data.errors import DataError
from topolora_hf.data.loading import load_segmentation_data


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
        if number in (1, 11):
            assert sum(map(len, load_segmentation_data(str(folder)).values())) == 12
        Image.new("L", (40, 32)).save(folder / f"masks/{number:02d}.png")
    with pytest.raises(DataError, match=r"no mask .* has any foreground: masks/00.png, .* and 9 more"):
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


def test_an_image_in_two_splits_is_refused_or_left_out_of_training(make_pairs, tmp_path):
    make_pairs(tmp_path / "train", 4)
    make_pairs(tmp_path / "test", 3, first=2)  # 2 and 3 are trained on, too
    with pytest.raises(
        DataError, match="(?s)2 of 7 rows.*in another split.*train/images/002.png = test/images/002.png"
    ):
        load_segmentation_data(str(tmp_path))
    data = load_segmentation_data(str(tmp_path), skip_bad=True, validation_fraction=0)
    assert {split: len(rows) for split, rows in data.items()} == {"train": 2, "test": 3}


def test_a_copy_in_another_format_is_a_leak_too(make_pairs, tmp_path):
    make_pairs(tmp_path / "train", 4)
    make_pairs(tmp_path / "test", 1, image="images/copy{n}.bmp", mask="masks/copy{n}.png")
    with pytest.raises(DataError, match="train/images/000.png = test/images/copy0.bmp"):
        load_segmentation_data(str(tmp_path))


def test_one_file_in_two_splits_is_a_leak_too(make_pairs, tmp_path):
    make_pairs(tmp_path, 4)
    lines = ["id,image,mask,split", "a0,images/000.png,masks/000.png,train", "a1,images/001.png,masks/001.png,train"]
    (tmp_path / "pairs.csv").write_text("\n".join([*lines, "b0,images/000.png,masks/002.png,test"]))
    with pytest.raises(DataError, match="in another split.*images/000.png = images/000.png"):
        load_segmentation_data(str(tmp_path / "pairs.csv"))


def test_a_copy_inside_one_split_is_only_mentioned_unless_validation_is_cut_from_it(make_pairs, tmp_path, caplog):
    make_pairs(tmp_path / "train", 4)
    make_pairs(tmp_path / "test", 1, first=20)
    (tmp_path / "train/images/001.png").write_bytes((tmp_path / "train/images/000.png").read_bytes())
    with pytest.raises(DataError, match="could fall into two splits.*train/images/001.png = train/images/000.png"):
        load_segmentation_data(str(tmp_path))
    with caplog.at_level(logging.WARNING):
        load_segmentation_data(str(tmp_path), validation_fraction=0)
    assert "there twice in one split: train/images/001.png = train/images/000.png" in caplog.text


def test_soft_and_full_masks_are_mentioned(folder, caplog):
    Image.radial_gradient("L").resize((40, 32)).save(folder / "masks/03.png")
    Image.new("L", (40, 32), 255).save(folder / "masks/04.png")
    Image.new("L", (40, 32)).save(folder / "masks/05.png")
    with caplog.at_level(logging.WARNING):
        data = load_segmentation_data(str(folder))
    assert "1 masks are not binary: masks/03.png. From half" in caplog.text
    assert "1 masks are foreground everywhere: masks/04.png" in caplog.text
    assert "masks/05.png" not in caplog.text
    assert any("1 masks have no foreground: masks/05.png" in remark for remark in data.remarks)


def test_mixed_sizes_are_remarked(make_pairs, save, tmp_path):
    make_pairs(tmp_path, 4)
    save(tmp_path / "images/big.png", "image", 9, (50, 60))
    save(tmp_path / "masks/big.png", "mask", 9, (50, 60))
    remarks = load_segmentation_data(str(tmp_path)).remarks
    assert remarks == ("images have 2 sizes: 20x24 (4), 60x50 (1)",)


def test_an_empty_field_of_view_is_a_problem(make_pairs, tmp_path):
    make_pairs(tmp_path, 4, view="fov/{n:03d}.png")
    Image.new("L", (20, 24)).save(tmp_path / "fov/002.png")
    with pytest.raises(DataError, match="field of view shows nothing"):
        load_segmentation_data(str(tmp_path))


def test_masks_that_are_mostly_bright_are_asked_about(tmp_path, save):
    for number in range(4):
        save(tmp_path / "images" / f"{number}.png", seed=number)
        mask = np.full((24, 20), 255, np.uint8)
        mask[number] = 0
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
    assert any("4 of 4 masks are more foreground" in remark for remark in load_segmentation_data(str(tmp_path)).remarks)


def test_processes_find_what_threads_find(folder, monkeypatch):
    spoil(folder)
    Image.fromarray(np.arange(32 * 40, dtype=np.uint8).reshape(32, 40) % 3).save(folder / "masks/05.png")
    messages = []
    for many in (1000, 1):
        monkeypatch.setattr("topolora_hf.data.checks._MANY", many)
        with pytest.raises(DataError) as caught:
            load_segmentation_data(str(folder))
        messages.append(str(caught.value))
    assert messages[0] == messages[1] and "6 of 12 rows" in messages[0]


def test_fundus_photographs_without_a_field_of_view_are_hinted_at(tmp_path):
    rows, columns = np.ogrid[:120, :140]
    disc = np.hypot(rows - 60, columns - 70) < 55
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for number in range(4):
        image = disc[..., None] * rng.integers(90, 160, (120, 140, 3))
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / f"images/{number}.png")
        Image.fromarray((columns == rows) * np.uint8(255)).save(tmp_path / f"masks/{number}.png")
    assert "4 images have no field of view" in load_segmentation_data(str(tmp_path)).remarks[-1]
    assert not any("--fov" in remark for remark in load_segmentation_data(str(tmp_path), fov="auto").remarks)


@pytest.mark.parametrize(
    ("image", "mask", "differs"),
    [
        ("Road_{}.png", "road_{}.png", "differ in letter case"),
        ("{}.png", "site/{}.png", "lie in folders of different names"),
        ("x{}.png", "x{}_drawn.tif", "mask_pattern={stem}_drawn.tif"),
        ("x{}_photo.png", "x{}.png", "image_pattern={stem}_photo.png"),
        ("x{}.png", "drawn{}.png", "nearest to x0.png is drawn0.png"),
    ],
)
def test_errors_show_how_names_differ(tmp_path, image, mask, differs):
    for number in range(3):
        for part, name in (("images", image), ("masks", mask)):
            path = tmp_path / part / name.format(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (9, 9), number).save(path)
    with pytest.raises(DataError) as caught:
        load_segmentation_data(str(tmp_path))
    assert "3 masks, 3 images" in str(caught.value) and differs in str(caught.value)
