import io

import numpy as np
import pytest
from datasets import Array2D, Array3D, ClassLabel, Dataset, DatasetDict, Features, Image, Value
from PIL import Image as Picture

from topolora_hf.data.catalog import CATALOG, find_dataset
from topolora_hf.data.errors import DataError
from topolora_hf.data.loading import load_segmentation_data
from topolora_hf.data.readers import hub
from topolora_hf.data.records import Layout


def cell(kind, seed, name, file_format="PNG"):
    rng = np.random.default_rng(seed)
    array = rng.integers(0, 256, (24, 20, 3), dtype=np.uint8)
    if kind == "mask":
        array = np.zeros((24, 20), np.uint8)
        array[seed % 10 + 2, 2:18] = 255
    buffer = io.BytesIO()
    Picture.fromarray(array).save(buffer, file_format)
    return {"bytes": buffer.getvalue(), "path": name}


def paired(numbers, image="image", mask="mask", **more):
    """The schema of Angelou0516/kvasir-seg: an image and a mask column."""
    columns = {
        image: [cell("image", number, f"c{number}.jpg") for number in numbers],
        mask: [cell("mask", number, f"c{number}.png") for number in numbers],
    }
    features = {image: Image(), mask: Image()}
    for name, values in more.items():
        columns[name], features[name] = values, Value("string")
    return Dataset.from_dict(columns, features=Features(features))


def separate(numbers):
    """The schema of Zomba/*: images and masks as rows of their own, of one file stem, told apart by a ClassLabel."""
    rows = [(cell("image", number, f"input/{number}.png"), 0) for number in numbers]
    rows += [(cell("mask", number, f"label/{number}.png"), 1) for number in reversed(numbers)]
    return Dataset.from_dict(
        {"image": [row[0] for row in rows], "label": [row[1] for row in rows]},
        features=Features({"image": Image(), "label": ClassLabel(names=["input", "label"])}),
    )


def check(data, counts):
    assert {split: len(rows) for split, rows in data.items()} == counts
    for rows in data.values():
        for row in rows:
            number = int("".join(character for character in row["id"] if character.isdigit()))
            expected = np.random.default_rng(number).integers(0, 256, (24, 20, 3), dtype=np.uint8)
            assert (row["image"] == expected).all() and row["mask"][0].any(axis=1).argmax() == number % 10 + 2


@pytest.mark.parametrize("name", ["kvasir", "folder"])
def test_paired_columns_saved_to_disk(tmp_path, name):
    splits = {"train": paired(range(6)), "validation": paired(range(10, 12)), "test": paired(range(20, 23))}
    DatasetDict(splits).save_to_disk(tmp_path / "saved")
    data = load_segmentation_data(name, str(tmp_path / "saved"))
    check(data, {"train": 6, "validation": 2, "test": 3})


def test_separate_rows_of_a_parquet_folder_are_paired_by_stem(tmp_path):
    (tmp_path / "data").mkdir()
    separate(range(6)).to_parquet(tmp_path / "data/train-00000-of-00001.parquet")
    separate(range(10, 13)).to_parquet(tmp_path / "data/validation-00000-of-00001.parquet")
    check(load_segmentation_data("drive", str(tmp_path), fov="none"), {"train": 6, "validation": 3})


def test_a_copy_has_no_second_person(tmp_path):
    DatasetDict({"train": paired(range(6)), "test": paired(range(20, 23))}).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match="saved has one person's masks: annotator 2 needs the official archive"):
        load_segmentation_data("drive", str(tmp_path / "saved"), annotator=2)


def test_a_copy_of_other_names_says_that_the_official_lists_do_not_divide_it(tmp_path):
    paired(range(10)).save_to_disk(tmp_path / "saved")
    data = load_segmentation_data("chase_db1", str(tmp_path / "saved"))
    assert "whose lists therefore do not divide it" in data.remarks[0]


def test_one_split_is_divided_like_a_folder(tmp_path):
    paired(range(10)).save_to_disk(tmp_path / "saved")
    data = load_segmentation_data(str(tmp_path / "saved"))
    check(data, {"train": 8, "validation": 1, "test": 1})


def test_columns_are_named_by_flags_where_several_fit(tmp_path):
    rows = paired(range(5), "photo", "vessels").add_column("extra", [cell("mask", n + 3, f"{n}.png") for n in range(5)])
    rows.cast_column("extra", Image()).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match="image_column: none of the usual names.*photo, vessels, extra"):
        load_segmentation_data(str(tmp_path / "saved"))
    layout = Layout(image_column="photo", mask_column="vessels")
    check(load_segmentation_data(str(tmp_path / "saved"), layout=layout), {"train": 3, "validation": 1, "test": 1})


def test_a_split_without_masks_is_left_out(tmp_path):
    unlabelled = separate(range(20, 23)).filter(lambda label: label == 0, input_columns="label")
    DatasetDict({"train": separate(range(5)), "test": unlabelled}).save_to_disk(tmp_path / "saved")
    check(load_segmentation_data(str(tmp_path / "saved"), validation_fraction=0), {"train": 5})


def test_a_row_without_a_mask_is_reported(tmp_path):
    rows = [
        {"image": cell("image", n, f"{n}.png"), "mask": cell("mask", n, f"{n}.png") if n else None} for n in range(5)
    ]
    Dataset.from_list(rows, features=Features({"image": Image(), "mask": Image()})).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match=r"no mask \(1\): images/0.png"):
        load_segmentation_data(str(tmp_path / "saved"))


@pytest.mark.parametrize(
    "feature", [Array2D((24, 20), "int64"), Array3D((1, 24, 20), "uint8"), Array3D((24, 20, 1), "bool")]
)
def test_masks_may_be_arrays(tmp_path, feature):
    masks = np.zeros((5, 24, 20), feature.dtype)
    masks[:, 7:9] = 1
    columns = {
        "image": [cell("image", n, f"{n}.png") for n in range(5)],
        "mask": list(masks.reshape(5, *feature.shape)),
    }
    features = Features({"image": Image(), "mask": feature})
    Dataset.from_dict(columns, features=features).save_to_disk(tmp_path / "saved")
    data = load_segmentation_data(str(tmp_path / "saved"))
    assert all((row["mask"] == masks[0]).all() for rows in data.values() for row in rows)


def test_a_data_set_without_image_columns_lists_its_columns(tmp_path):
    Dataset.from_dict({"text": ["a"], "number": [1]}).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match=r"needs a column of images and one of masks.*text \(Value\), number \(Value\)"):
        load_segmentation_data(str(tmp_path / "saved"))


def test_hub_ids_of_the_catalogue_take_its_settings():
    for name in ("drive", "stare", "chase_db1", "kvasir"):
        spec, location = find_dataset(CATALOG[name].hub_id)
        assert spec is CATALOG[name] and location == spec.hub_id
    spec, location = find_dataset("someone/some-roads")
    assert (spec.name, spec.view, location) == ("some-roads", "tiles", "someone/some-roads")


def test_what_the_hub_does_not_give_is_explained():
    with pytest.raises(DataError, match="someone/some-roads cannot be loaded"):
        load_segmentation_data("someone/some-roads")
    with pytest.raises(DataError, match=r"(?s)Zomba/DRIVE.* cannot be loaded.*needs data_dir.*training/images"):
        load_segmentation_data("drive")


def test_an_absurd_image_is_refused_with_its_name(tmp_path, monkeypatch):
    rows = paired(range(6)).to_list()
    buffer = io.BytesIO()
    Picture.new("RGB", (400, 300)).save(buffer, "PNG")
    rows[3]["image"] = {"bytes": buffer.getvalue(), "path": "c3.png"}
    features = Features({"image": Image(), "mask": Image()})
    Dataset.from_list(rows, features=features).save_to_disk(tmp_path / "saved")
    monkeypatch.setenv("TOPOLORA_MAX_IMAGE_PIXELS", "10000")
    text = (
        r"unreadable image \(1\): images/c3.png \(train row 3, column image\): has 400 x 300 pixels, more than the 10,0"
    )
    with pytest.raises(DataError, match=text):
        load_segmentation_data(str(tmp_path / "saved"))
    assert sum(map(len, load_segmentation_data(str(tmp_path / "saved"), skip_bad=True).values())) == 5


STRANGE = ["../../outside.png", "/outside.png", ".hidden.png", "x\0y.png", "n" * 300 + ".png", "..", ""]


@pytest.mark.parametrize("path", STRANGE)
def test_names_in_a_data_set_lead_nowhere_else(tmp_path, path):
    rows = paired(range(5)).to_list()
    rows[2]["image"]["path"] = path
    Dataset.from_list(rows, features=Features({"image": Image(), "mask": Image()})).save_to_disk(tmp_path / "saved")
    check_count = sum(map(len, load_segmentation_data(str(tmp_path / "saved")).values()))
    assert check_count == 5 and not list(tmp_path.rglob("outside*"))


def test_a_data_set_from_the_hub_may_not_point_to_files_of_ones_own(tmp_path, save):
    private = save(tmp_path / "private.png")
    with pytest.raises(DataError, match=f"org/set: row 1 points to {private}, which is not a part of the data set"):
        hub._file_content("org/set: row 1", str(private), is_remote=True)
    assert hub._file_content("a folder: row 1", str(private), is_remote=False) == private.read_bytes()
    with pytest.raises(DataError, match="row 1 points to .*gone.png, which cannot be read: No such file"):
        hub._file_content("a folder: row 1", str(tmp_path / "gone.png"), is_remote=False)


def test_a_script_beside_the_data_is_not_run(tmp_path):
    folder = tmp_path / "roads"
    folder.mkdir()
    paired(range(5)).to_parquet(folder / "train-00000-of-00001.parquet")
    (folder / "roads.py").write_text(f"open({str(tmp_path / 'touched')!r}, 'w')")
    try:
        load_segmentation_data(str(folder))
    except DataError as error:
        assert "roads" in str(error)
    assert not (tmp_path / "touched").exists()
