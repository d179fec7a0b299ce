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


@pytest.mark.parametrize("name", ["chase_db1", "stare", "hrf", "hrf_av"])
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


INDEX = np.tile(np.arange(4, dtype=np.uint8), (24, 5))  # background, artery, vein, crossing
RITE = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255), (0, 255, 0)], np.uint8)
ARTERY_VEIN = np.stack([(INDEX == 1) | (INDEX == 3), (INDEX == 2) | (INDEX == 3)])


def make_drive(root, labels, label, with_view=True):
    """DRIVE's folders, and in `labels` the arteries and veins."""
    for folder, first in (("training", 21), ("test", 1)):
        for number in range(first, first + 20):
            save_bytes(root / folder / f"images/{number:02d}_{folder}.tif", encoded(array("image", number), "TIFF"))
            save_bytes(labels / folder / label / f"{number:02d}_{folder}.png", encoded(INDEX, "PNG"))
            if with_view:
                save_bytes(root / folder / f"mask/{number:02d}_{folder}_mask.gif", encoded(INDEX * 85 > 9, "GIF"))


@pytest.mark.parametrize("beside", [True, False])
def test_drive_av_reads_labels_beside_drive_or_inside_it(beside, tmp_path):
    if beside:
        make_drive(tmp_path / "DRIVE", tmp_path / "DRIVE_AV", "1st_manual")
    else:
        make_drive(tmp_path, tmp_path, "av")
    data = load_segmentation_data("drive_av", str(tmp_path), validation_fraction=0)
    assert (len(data["train"]), len(data["test"])) == (20, 20) and ids(data["test"])[0] == "01_test"
    assert data.labels == ("artery", "vein") and not data.exclusive and data.thin == (True, True)
    row = data["train"][0]
    assert (row["mask"] == ARTERY_VEIN).all() and (row["valid_mask"] == (INDEX > 0)).all()
    ignoring = load_segmentation_data("drive_av", str(tmp_path), classes=["artery=1", "vein=2", "ignore=3"])
    row = ignoring["test"][0]
    assert ignoring.exclusive and (row["mask"] == np.stack([INDEX == 1, INDEX == 2])).all()
    assert not row["valid_mask"][INDEX == 3].any()


def test_drive_av_reads_the_colours_of_rite_which_has_no_field_of_view(tmp_path):
    make_drive(tmp_path, tmp_path, "av", with_view=False)
    for path in tmp_path.glob("*/av/*.png"):
        Image.fromarray(RITE[INDEX]).save(path)
    data = load_segmentation_data("drive_av", str(tmp_path), fov="none")
    assert (data["test"][0]["mask"] == ARTERY_VEIN).all() and data["test"][0]["valid_mask"].all()
    next(tmp_path.glob("test/av/*.png")).unlink()
    with pytest.raises(DataError, match=r"39 of 40 rows \(missing: .*_test \(mask\)\)"):
        load_segmentation_data("drive_av", str(tmp_path))


def test_hrf_is_divided_by_kind_with_vessels_or_arteries_and_veins(tmp_path):
    for number in range(1, 16):
        for seed, kind in enumerate(("h", "dr", "g")):
            name = f"{number:02d}_{kind}"
            suffix = "JPG" if kind == "dr" else "jpg"
            save_bytes(tmp_path / f"images/{name}.{suffix}", encoded(array("image", 3 * number + seed), "JPEG"))
            save_bytes(tmp_path / f"manual1/{name}.tif", encoded(array("first", 0), "TIFF"))
            view = np.repeat(array("second", 0)[..., None], 3, axis=2)
            save_bytes(tmp_path / f"mask/{name}_mask.tif", encoded(view, "TIFF"))
            save_bytes(tmp_path / f"AVmanual/{name}_AVmanual.png", encoded(INDEX, "PNG"))
    for name, expected in (("hrf", array("first", 0)[None] > 0), ("hrf_av", ARTERY_VEIN)):
        data = load_segmentation_data(name, str(tmp_path), validation_fraction=0)
        assert ids(data["train"])[:4] == ["01_dr", "01_g", "01_h", "02_dr"] and ids(data["test"])[-1] == "15_g"
        assert (len(data["train"]), len(data["test"])) == (15, 30)
        row = data["test"][0]
        assert (row["mask"] == expected).all() and (row["valid_mask"] == (array("second", 0) > 0)).all()
