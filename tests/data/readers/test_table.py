import json

import pytest

from topolora_hf.data.errors import DataError
from topolora_hf.data.loading import load_segmentation_data
from topolora_hf.data.records import Layout


@pytest.fixture
def files(make_pairs, tmp_path):
    return make_pairs(tmp_path, 6, "pictures/{n}.png", "drawn/{n}.png", "seen/{n}.png")


def write_csv(root, columns, delimiter=",", name="pairs.csv", rows=6, **values):
    lines = [delimiter.join(columns)]
    for number in range(rows):
        known = {"image": f"pictures/{number}.png", "mask": f"drawn/{number}.png", "valid_mask": f"seen/{number}.png"}
        known |= {"split": "train" if number < 4 else "test", "id": f"row{number}"}
        lines.append(delimiter.join((known | values)[columns[key]] for key in columns))
    path = root / name
    path.write_text("\n".join(lines) + "\n")
    return path


def plain(*names):
    return {name: name for name in names}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_csv_file_gives_rows_ids_splits_and_fields_of_view(files, delimiter):
    path = write_csv(files, plain("id", "split", "image", "mask", "valid_mask"), delimiter)
    data = load_segmentation_data(str(path), validation_fraction=0)
    assert {split: len(rows) for split, rows in data.items()} == {"train": 4, "test": 2}
    row = data["test"][0]
    assert row["id"] == "row4" and row["mask"][0].any(axis=1).argmax() == 6 and not row["valid_mask"][0].any()


def test_only_line_ends_part_the_rows_of_a_jsonl_file(files):
    rows = [{"image": f"pictures/{n}.png", "mask": f"drawn/{n}.png", "note": "one\u2028two\x0b"} for n in range(6)]
    path = files / "pairs.jsonl"
    path.write_text("\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    assert sum(map(len, load_segmentation_data(str(path)).values())) == 6


def test_column_names_are_read_in_any_letter_case(files):
    path = write_csv(files, plain("id", "split", "image", "mask"))
    path.write_text(path.read_text().replace("id,split,image,mask", "ID,Split,Image,MASK"))
    data = load_segmentation_data(str(path), validation_fraction=0)
    assert [row["id"] for row in data["test"]] == ["row4", "row5"] and len(data["train"]) == 4


def test_images_of_one_name_in_several_folders_get_ids_of_their_own(files, make_pairs, tmp_path_factory):
    elsewhere = make_pairs(tmp_path_factory.mktemp("elsewhere"), 1, "0.png", "0_mask.png", first=7)
    (files / "two.csv").write_text(
        f"image,mask\npictures/0.png,drawn/0.png\n{elsewhere / '0.png'},{elsewhere / '0_mask.png'}\n"
    )
    data = load_segmentation_data(str(files / "two.csv"))
    assert len({row["id"] for split in data.values() for row in split}) == 2


def test_a_folder_with_a_single_table_is_read_by_it(files):
    write_csv(files, plain("image", "mask"))
    assert sum(map(len, load_segmentation_data(str(files)).values())) == 6
    assert sum(map(len, load_segmentation_data("folder", str(files / "pairs.csv")).values())) == 6


def test_jsonl_and_columns_of_other_names(files):
    lines = [json.dumps({"photo": f"pictures/{n}.png", "truth": f"drawn/{n}.png"}) for n in range(6)]
    (files / "list.jsonl").write_text("\n".join(lines))
    layout = Layout(image_column="photo", mask_column="truth")
    assert sum(map(len, load_segmentation_data(str(files / "list.jsonl"), layout=layout).values())) == 6
    with pytest.raises(DataError, match="image_column: none of the usual names .* there are photo, truth"):
        load_segmentation_data(str(files / "list.jsonl"))
    with pytest.raises(DataError, match="no column 'pic'; there are photo, truth"):
        load_segmentation_data(str(files / "list.jsonl"), layout=Layout(image_column="pic"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no rows"),
        ("image,mask\n", "has no rows"),
        ("image,mask\na.png\n", "row 1 has another number of fields"),
        ("image,mask\na.png,b.png,c.png\n", "row 1 has another number of fields"),
        ("image,mask,split\na.png,b.png,later\n", "split 'later'; allowed"),
        ("image,mask,split\na.png,b.png,train\nc.png,d.png,\n", "1 rows have no split"),
        ("image,mask,id\na.png,b.png,1\nc.png,d.png,1\n", "same id or image: 1"),
        ("image,mask\n,b.png\n", "row 1 has no image"),
        ('image,mask\n"a.png,' + "b" * 200_000, "not a table of separated values: field larger"),
        ("image,mask\na.png,\n", r"(?s)unreadable image.*a.png: no such file.*no mask \(1\)"),
    ],
)
def test_tables_that_make_no_sense_say_where(tmp_path, text, message):
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        load_segmentation_data(str(tmp_path / "pairs.csv"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"image": "a.png", "mask"', "line 1 is not JSON"),
        (b"[1, 2]", "line 1 must be an object"),
        (b'{"image": 3, "mask": "a.png"}', "a file's name is needed, got 3"),
        (b"\xff\xfe\x00", "is not text"),
    ],
)
def test_broken_jsonl_says_where(tmp_path, content, message):
    (tmp_path / "pairs.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_segmentation_data(str(tmp_path / "pairs.jsonl"))
