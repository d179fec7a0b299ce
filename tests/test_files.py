import json
import os

import pytest
import torch
from safetensors.torch import save_file

from topolora_hf.files import read_json_object, replacing_directory, whole_file, write_history, write_json


def test_undefined_values_become_null(tmp_path):
    write_json(tmp_path / "a.json", {"dice": float("nan"), "rows": [{"x": float("nan")}], "n": 3})
    assert json.loads((tmp_path / "a.json").read_text()) == {"dice": None, "rows": [{"x": None}], "n": 3}


def test_what_cannot_be_written_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", {"n": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"n": object()})
    assert read_json_object(tmp_path / "a.json") == {"n": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_two_who_write_one_file_do_not_meet(tmp_path):
    with whole_file(tmp_path / "a") as first, whole_file(tmp_path / "a") as second:
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "a").read_text() == "first"  # whose block ended last
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_history_has_the_columns_of_all_rows(tmp_path):
    write_history(tmp_path / "h.csv", [{"step": 1, "loss": 0.5}, {"step": 1, "val_dice": 0.25}])
    assert (tmp_path / "h.csv").read_text() == "step,loss,val_dice\n1,0.5,\n1,,0.25\n"


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ValueError, match="a.json is not a JSON file"):
        read_json_object(tmp_path / "a.json")


def test_files_have_the_rights_that_the_umask_says_whatever_their_writer_gave_them(tmp_path):
    before = os.umask(0o027)
    try:
        with whole_file(tmp_path / "a") as temporary:
            save_file({"x": torch.zeros(1)}, temporary)
        with replacing_directory(tmp_path / "b") as directory:
            save_file({"x": torch.zeros(1)}, directory / "a")
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "a", tmp_path / "b" / "a")] == [0o640, 0o640]
