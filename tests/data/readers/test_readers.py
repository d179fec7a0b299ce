import dataclasses
import pickle

import numpy as np
import pytest
from PIL import Image

from topolora_hf.data.catalog import CATALOG, find_dataset
from topolora_hf.data.errors import DataError
from topolora_hf.data.loading import load_segmentation_data


def save(path, seed=0, kind="image", size=(24, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    if kind == "image":
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    else:
        mask = np.zeros(size, np.uint8)
        mask[seed % 10 + 2, 2 : 18 if kind == "mask" else 20] = 255
        if kind == "view":
            mask[2:-2] = 255
        Image.fromarray(mask).save(path)


def make_drive(root, train=20, test=20):
    for split, numbers in (("training", range(21, 21 + train)), ("test", range(1, 1 + test))):
        for number in numbers:
            save(root / split / "images" / f"{number:02d}_{split}.tif", number)
            save(root / split / "1st_manual" / f"{number:02d}_manual1.gif", number, "mask")
            save(root / split / "mask" / f"{number:02d}_{split}_mask.gif", number, "view")
    return root


def make_folder(root, count, suffix="", masks="masks", first=0):
    for number in range(first, first + count):
        save(root / "images" / f"{number:03d}.png", number)
        save(root / masks / f"{number:03d}{suffix}.png", number, "mask")
    return root


def ids(rows):
    return [row["id"] for row in rows]


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return make_drive(tmp_path_factory.mktemp("DRIVE"))


def test_drive_pairs_files_by_number_and_keeps_the_field_of_view_apart(drive):
    data = load_segmentation_data("drive", str(drive), validation_fraction=0)
    assert {split: len(rows) for split, rows in data.items()} == {"train": 20, "test": 20}
    row = data["test"][4]
    folder = drive / "test"
    assert row["id"] == "05_test"
    assert (row["image"] == np.asarray(Image.open(folder / "images/05_test.tif"))).all()
    assert (row["mask"] == (np.asarray(Image.open(folder / "1st_manual/05_manual1.gif")) > 0)).all()
    assert (row["valid_mask"] == (np.asarray(Image.open(folder / "mask/05_test_mask.gif")) > 0)).all()
    assert row["mask"].dtype == np.uint8 and row["valid_mask"].dtype == bool
    assert row["mask"].sum() < row["valid_mask"].sum()


def test_validation_is_cut_from_train_by_seed(drive):
    first, again, other = (load_segmentation_data("drive", str(drive), seed=seed) for seed in (0, 0, 1))
    assert [len(first[split]) for split in ("train", "validation", "test")] == [18, 2, 20]
    assert ids(first["validation"]) == ids(again["validation"]) != ids(other["validation"])
    assert not set(ids(first["train"])) & set(ids(first["validation"]))
    assert ids(first["test"]) == ids(other["test"])


def test_incomplete_drive_is_counted_and_refused_unless_allowed(tmp_path):
    make_drive(tmp_path, train=12)
    (tmp_path / "training/1st_manual/23_manual1.gif").unlink()
    with pytest.raises(DataError, match=r"31 of 40 rows \(missing: 23_training \(mask\), 33_training \(image and"):
        load_segmentation_data("drive", str(tmp_path))
    data = load_segmentation_data("drive", str(tmp_path), skip_bad=True, validation_fraction=0)
    assert len(data["train"]) == 11 and "23_training" not in ids(data["train"])


def test_drive_test_images_without_segmentations_are_explained(tmp_path):
    make_drive(tmp_path)
    for path in (tmp_path / "test/1st_manual").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="(?s)20 of 40 rows.*keeps those of the test"):
        load_segmentation_data("drive", str(tmp_path))
    assert set(load_segmentation_data("drive", str(tmp_path), skip_bad=True)) == {"train", "validation"}


def test_wrong_layout_says_what_was_expected_and_found(tmp_path):
    save(tmp_path / "pictures" / "a.png")
    (tmp_path / "readme.txt").write_text("")
    for name in ("drive", "kvasir", "folder", "stare", "chase_db1", "sl_ssdd"):
        with pytest.raises(DataError, match=r"(?s)Expected:.*(Image|images).*Found: pictures/"):
            load_segmentation_data(name, str(tmp_path))


def test_kvasir_test_split_is_the_same_for_every_seed(tmp_path):
    make_folder(tmp_path, 25)
    with pytest.raises(DataError, match="25 of 1000"):
        load_segmentation_data("kvasir", str(tmp_path))
    first, other = (load_segmentation_data("kvasir", str(tmp_path), skip_bad=True, seed=s) for s in (0, 1))
    assert [len(first[split]) for split in ("train", "validation", "test")] == [20, 2, 3]  # 12 % of 25 are tested
    assert ids(first["test"]) == ids(other["test"])


def test_kvasir_uses_the_authors_lists_where_they_lie(tmp_path):
    make_folder(tmp_path, 10)
    (tmp_path / "train.txt").write_text("".join(f"{number:03d}\n" for number in range(7)))
    (tmp_path / "val.txt").write_text("007\n008\n009\n")
    data = load_segmentation_data("kvasir", str(tmp_path), skip_bad=True)
    assert ids(data["test"]) == ["007", "008", "009"]


def test_split_folders_are_kept_and_no_test_split_is_invented(tmp_path):
    make_folder(tmp_path / "train", 6)
    make_folder(tmp_path / "validation", 3, first=100)
    for name in ("kvasir", "folder"):
        data = load_segmentation_data(name, str(tmp_path))
        assert {split: len(rows) for split, rows in data.items()} == {"train": 6, "validation": 3}


def test_folder_without_splits_is_divided(tmp_path):
    data = load_segmentation_data(str(make_folder(tmp_path, 20)))
    assert {split: len(rows) for split, rows in data.items()} == {"train": 16, "validation": 2, "test": 2}
    assert len({row_id for rows in data.values() for row_id in ids(rows)}) == 20
    assert data["train"][0]["valid_mask"].all()


@pytest.mark.parametrize("suffix", ["_mask", "-gt", "_label", "_manual1"])
def test_masks_with_a_suffix_are_found(tmp_path, suffix):
    data = load_segmentation_data(str(make_folder(tmp_path, 3, suffix=suffix)))
    assert sum(map(len, data.values())) == 3


def test_same_names_in_different_subfolders_get_ids_of_their_own(tmp_path):
    for site in ("north", "south"):
        save(tmp_path / "images" / site / "1.png", len(site) + ord(site[0]))
        save(tmp_path / "masks" / site / "1.png", 2 if site == "north" else 5, "mask")
    data = load_segmentation_data(str(tmp_path), validation_fraction=0)
    rows = [row for split in data.values() for row in split]
    assert sorted(row["id"] for row in rows) == ["north/1", "south/1"]
    assert {row["id"]: int(row["mask"][0].any(axis=1).argmax()) for row in rows} == {"north/1": 4, "south/1": 7}


def test_an_image_with_two_masks_is_refused(tmp_path):
    make_folder(tmp_path, 3)
    save(tmp_path / "masks" / "001.bmp", 1, "mask")
    with pytest.raises(DataError, match="001.png: 001.bmp, 001.png"):
        load_segmentation_data(str(tmp_path))


def test_hidden_files_of_archives_are_not_images(tmp_path):
    make_folder(tmp_path, 4)
    (tmp_path / "images" / "._000.png").write_bytes(b"finder")
    assert sum(map(len, load_segmentation_data(str(tmp_path)).values())) == 4


def test_unknown_names_list_the_known_ones():
    with pytest.raises(
        DataError,
        match="'drvie'.*chase_db1, drive, drive_av, folder, hrf, .*stare, synthetic",
    ):
        load_segmentation_data("drvie")
    with pytest.raises(DataError, match="'authors'; allowed: native, paper"):
        load_segmentation_data("synthetic", protocol="authors")


def test_named_sets_without_data_dir_say_what_it_should_hold(tmp_path):
    for name in ("drive", "kvasir"):
        with pytest.raises(DataError, match="(?s)needs data_dir.*images/"):
            load_segmentation_data(name)
    with pytest.raises(DataError, match="does not exist"):
        load_segmentation_data("drive", str(tmp_path / "absent"))


def test_a_path_takes_the_folder_defaults(tmp_path):
    spec, folder = find_dataset(str(tmp_path))
    assert (spec.name, spec.view, folder) == (tmp_path.name, CATALOG["folder"].view, tmp_path)


def test_synthetic_splits_share_no_image_and_are_adjustable():
    spec = dataclasses.replace(
        CATALOG["synthetic"], counts={"train": 3, "validation": 2, "test": 2}, image_size=64, kinds=("blobs",)
    )
    data = load_segmentation_data(spec)
    rows = [row for split in data.values() for row in split]
    assert len({row["image"].tobytes() for row in rows}) == 7
    assert all(row["image"].shape == (64, 64, 3) and row["id"].startswith("blobs") for row in rows)
    assert (data["train"][1]["image"] == data["train"][:2]["image"][1]).all()


def test_rows_are_decoded_when_read_and_travel_as_paths(drive):
    train = load_segmentation_data("drive", str(drive))["train"]
    assert all(isinstance(path, str) for path in train.with_format(None)[0].values())
    assert len(pickle.dumps(train)) < 100_000
    assert train["image"][0].shape == (24, 20, 3)
