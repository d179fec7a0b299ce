import gzip
import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from topolora_hf.data.catalog import CATALOG
from topolora_hf.data.errors import DataError
from topolora_hf.data.loading import load_segmentation_data
from topolora_hf.data.records import Layout

STARE = "0001 0002 0003 0004 0005 0044 0077 0081 0082 0139 0162 0163 0235 0236 0239 0240 0255 0291 0319 0324".split()


def array(kind, seed, size=(24, 20)):
    if kind == "image":
        return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    mask = np.zeros(size, np.uint8)
    mask[3 if kind == "first" else 9, 2:18] = 255
    return mask


def encoded(pixels, file_format):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format)
    return buffer.getvalue()


def save_bytes(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def chase(tmp_path):
    for number in range(28):
        name = f"Image_{number // 2 + 1:02d}{'LR'[number % 2]}"
        save_bytes(tmp_path / f"{name}.jpg", encoded(array("image", number), "JPEG"))
        for annotator, kind in (("1st", "first"), ("2nd", "second")):
            save_bytes(tmp_path / f"{name}_{annotator}HO.png", encoded(array(kind, number) > 0, "PNG"))
    return tmp_path


@pytest.fixture
def stare(tmp_path):
    for seed, number in enumerate(STARE):
        save_bytes(tmp_path / f"stare-images/im{number}.ppm.gz", gzip.compress(encoded(array("image", seed), "PPM")))
        for folder, kind in (("ah", "first"), ("vk", "second")):
            mask = gzip.compress(encoded(array(kind, seed), "PPM"))
            save_bytes(tmp_path / f"labels-{folder}/im{number}.{folder}.ppm.gz", mask)
    return tmp_path


def ids(rows):
    return [row["id"] for row in rows]


def line_of(rows):
    return {int(row["mask"][0].any(axis=1).argmax()) for row in rows}


def test_chase_db1_is_divided_by_the_authors_and_the_baselines_lists(chase):
    data = load_segmentation_data("chase_db1", str(chase), validation_fraction=0)
    assert [len(data[split]) for split in ("train", "test")] == [20, 8]
    assert ids(data["test"])[0] == "Image_11L" and ids(data["train"])[-1] == "Image_10R"
    baselines = load_segmentation_data("chase_db1", str(chase), split="idiap", validation_fraction=0)
    assert ids(baselines["train"]) == ids(data["test"]) and ids(baselines["test"]) == ids(data["train"])


def test_stare_is_divided_by_both_lists(stare):
    data = load_segmentation_data("stare", str(stare), validation_fraction=0)
    assert [len(data[split]) for split in ("train", "test")] == [16, 4]
    assert ids(data["test"]) == ["im0255", "im0291", "im0319", "im0324"]
    baselines = load_segmentation_data("stare", str(stare), split="idiap", validation_fraction=0)
    assert [len(baselines[split]) for split in ("train", "test")] == [10, 10]
    assert ids(baselines["test"])[0] == "im0162"


@pytest.mark.parametrize("name", ["chase_db1", "stare"])
def test_the_second_annotator_has_masks_of_their_own(name, request):
    root = str(request.getfixturevalue("chase" if name == "chase_db1" else "stare"))
    assert line_of(load_segmentation_data(name, root)["test"]) == {3}
    assert line_of(load_segmentation_data(name, root, annotator=2)["test"]) == {9}
    with pytest.raises(DataError, match="annotator 3"):
        load_segmentation_data(name, root, annotator=3)


def test_sets_without_such_lists_or_annotators_say_so(stare):
    with pytest.raises(DataError, match="'drive' has no split 'idiap'; allowed: default"):
        load_segmentation_data("drive", str(stare), split="idiap")
    with pytest.raises(DataError, match="'stare' has no split 'random'; allowed: default, idiap"):
        load_segmentation_data("stare", str(stare), split="random")
    with pytest.raises(DataError, match="'kvasir' has no annotator 2; allowed: 1"):
        load_segmentation_data("kvasir", str(stare), annotator=2)


def test_what_a_set_has_no_use_for_is_refused(stare, make_pairs, tmp_path):
    with pytest.raises(DataError, match="has no use for mask_dir 'labels-vk'"):
        load_segmentation_data("stare", str(stare), layout=Layout(mask_dir="labels-vk"))
    make_pairs(tmp_path, 4)
    with pytest.raises(DataError, match="has no use for image_column 'photo'"):
        load_segmentation_data(str(tmp_path), layout=Layout(image_column="photo"))
    with pytest.raises(DataError, match="which is drawn, has no use for image_dir 'photos'"):
        load_segmentation_data("synthetic", layout=Layout(image_dir="photos"))
    for settings in ({"protocol": "paper"}, {"fov": "none"}):
        with pytest.raises(DataError, match="is drawn, with its field of view: protocol must be native and fov given"):
            load_segmentation_data("synthetic", **settings)


def test_missing_rows_are_counted_and_the_lists_still_divide_the_rest(chase):
    (chase / "Image_03L_1stHO.png").unlink()
    (chase / "Image_12R.jpg").unlink()
    with pytest.raises(DataError, match=r"26 of 28 rows \(missing: Image_03L \(mask\), Image_12R \(image\)\)"):
        load_segmentation_data("chase_db1", str(chase))
    data = load_segmentation_data("chase_db1", str(chase), skip_bad=True, validation_fraction=0)
    assert [len(data[split]) for split in ("train", "test")] == [19, 7]


def test_stare_reads_from_the_archives_as_downloaded(stare, tmp_path_factory):
    packed = tmp_path_factory.mktemp("packed")
    for folder in ("stare-images", "labels-ah"):
        with tarfile.open(packed / f"{folder}.tar", "w") as tar:
            for path in (stare / folder).iterdir():
                tar.add(path, path.name)
    loaded = load_segmentation_data("stare", str(packed))
    expected = load_segmentation_data("stare", str(stare))
    assert ids(loaded["test"]) == ids(expected["test"])
    assert (loaded["test"][0]["image"] == expected["test"][0]["image"]).all()


@pytest.fixture
def sl_ssdd_masks(tmp_path):
    """As published: masks alone, sea is 255."""
    for number in range(1, 13):
        split = "test" if number % 10 in (1, 9) else "train"
        save_bytes(tmp_path / split / f"{number:06d}.png", encoded(array("first", number), "PNG"))
    return tmp_path


def test_sl_ssdd_names_the_missing_images(sl_ssdd_masks):
    with pytest.raises(DataError, match=r"0 of 12 rows \(missing: 000002 \(image\), .*000011 \(image\)\)"):
        load_segmentation_data("sl_ssdd", str(sl_ssdd_masks), skip_bad=True)


@pytest.mark.parametrize(
    "where", ["{split}/{number:06d}.jpg", "JPEGImages/{number:06d}.jpg", "images/{number:06d}.png"]
)
def test_sl_ssdd_works_once_its_images_lie_beside_the_masks(sl_ssdd_masks, where):
    for number in range(1, 13):
        split = "test" if number % 10 in (1, 9) else "train"
        path = sl_ssdd_masks / where.format(split=split, number=number)
        save_bytes(path, encoded(array("image", number), "JPEG" if path.suffix == ".jpg" else "PNG"))
    with pytest.raises(DataError, match="train has 9 of 928 rows"):
        load_segmentation_data("sl_ssdd", str(sl_ssdd_masks))
    data = load_segmentation_data("sl_ssdd", str(sl_ssdd_masks), skip_bad=True, validation_fraction=0)
    assert ids(data["test"]) == ["000001", "000009", "000011"] and len(data["train"]) == 9
    assert data["test"][0]["mask"][0, 3, 5] == 1  # sea is the foreground


def test_sl_ssdd_reads_lists_of_names(tmp_path):
    lists = {"train": range(6), "val": range(6, 8), "test": range(8, 10)}
    for name, numbers in lists.items():
        save_bytes(tmp_path / f"splits/{name}.txt", "".join(f"{number}.jpg\n" for number in numbers).encode())
        for number in numbers:
            save_bytes(tmp_path / f"images/{number}.jpg", encoded(array("image", number), "JPEG"))
            save_bytes(tmp_path / f"masks/{number}.png", encoded(array("first", number), "PNG"))
    data = load_segmentation_data("sl_ssdd", str(tmp_path))
    assert {split: len(rows) for split, rows in data.items()} == {"train": 6, "validation": 2, "test": 2}
    (tmp_path / "images/9.jpg").unlink()
    with pytest.raises(DataError, match=r"9 of 10 rows \(missing: 9 \(image\)\)"):
        load_segmentation_data("sl_ssdd", str(tmp_path))


def test_sl_ssdd_never_takes_another_file_of_the_name_for_the_image(tmp_path):
    save_bytes(tmp_path / "splits/train.txt", b"\xef\xbb\xbf0\n1\n2\n")
    for number in range(3):
        save_bytes(tmp_path / f"images/{number}.jpg", encoded(array("image", number), "JPEG"))
        save_bytes(tmp_path / f"masks/{number}.png", encoded(array("first", number), "PNG"))
        save_bytes(tmp_path / f"train/{number}.png", encoded(array("first", number), "PNG"))
    rows = load_segmentation_data("sl_ssdd", str(tmp_path), skip_bad=True, validation_fraction=0)["train"]
    assert len(rows) == 3 and all(row["image"].std() > 50 for row in rows)  # noise, not a line
    (tmp_path / "images").rename(tmp_path / "pictures")
    with pytest.raises(DataError, match="are the same row; keep one of them"):
        load_segmentation_data("sl_ssdd", str(tmp_path))


@pytest.mark.parametrize("name", ["chase_db1", "stare"])
def test_lists_hold_every_row_once(name):
    spec = CATALOG[name]
    for lists in spec.split_lists.values():
        listed = [row_id for split in lists.values() for row_id in split]
        assert len(listed) == len(set(listed)) == sum(spec.counts.values())
    assert {split: len(listed) for split, listed in spec.split_lists["default"].items()} == spec.counts


def test_the_papers_protocol_scores_whole_squashed_images_without_a_field_of_view(chase):
    native = load_segmentation_data("chase_db1", str(chase), validation_fraction=0)
    data = load_segmentation_data("chase_db1", str(chase), protocol="paper", validation_fraction=0)
    row = data["test"][0]
    assert [row[name].shape for name in ("image", "mask", "valid_mask")] == [(384, 384, 3), (1, 384, 384), (384, 384)]
    assert set(np.unique(row["mask"])) <= {0, 1} and row["valid_mask"].all()
    assert data["train"][0]["image"].shape == native["train"][0]["image"].shape
