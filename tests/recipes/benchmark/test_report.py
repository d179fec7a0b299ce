import json

import pytest
from PIL import Image

from benchmark.arguments import BenchmarkArguments
from benchmark.jobs import Group, Row
from benchmark.measure import Measurement
from benchmark.report import (
    Results,
    as_json,
    as_markdown,
    draw_picture,
    write_report,
)

ROWS = [
    Row("step/ours/float32", True, "ours", None),
    Row("step/sdpa/float32", False, "SDPA", None),
    Row("step/eager/float32", False, "eager", None),
]


@pytest.fixture
def results():
    return Results(
        BenchmarkArguments(model="small", device="cpu", threads=2, output_dir="somewhere"),
        [Group("step", "Training step", {"SDPA": "step/sdpa/{dtype}"}, item="image")],
        ROWS,
        {
            "step/ours/float32": Measurement([1.0, 2.0, 9.0], 3 * 10**9, 10**9, flops=8e9, least_bytes=1e9),
            "step/sdpa/float32": Measurement([5.0], 6 * 10**9, 4 * 10**9, flops=8e9, least_bytes=1e9),
            "step/eager/float32": Measurement(error="the process was killed"),
        },
        {"float32": 1e10, "bfloat16": 2e10, "copy": 5e9},
        {"ours": {"difference": 2e-6, "parameter": "sam.x"}},
    )


def test_json_holds_ratios_and_the_limit(results):
    rows = {row["name"]: row for row in as_json(results)["rows"]}
    ours = rows["step/ours/float32"]
    assert ours["median_seconds"] == 2 and ours["against"] == {"SDPA": {"speed": 2.5, "memory": 0.5}}
    assert ours["limit_seconds"] == pytest.approx(0.8) and ours["fraction_of_limit"] == pytest.approx(0.4)
    assert rows["step/eager/float32"]["error"] == "the process was killed"
    assert as_json(results)["order"] == [row.name for row in ROWS]


def test_bytes_are_the_limit_where_they_take_longer_than_flops(results):
    results.measurements["step/ours/float32"].least_bytes = 2e10
    assert results.limit(ROWS[0]) == pytest.approx(4)


def test_extra_memory_is_compared_where_the_group_says_so(results):
    group = Group("step", "Training step", {"SDPA": "step/sdpa/{dtype}"}, memory="extra")
    assert results.ratios(ROWS[0], group, "step/sdpa/{dtype}") == (2.5, 0.25)


def test_the_table_has_theirs_first_and_the_numbers_of_each_row(results):
    lines = as_markdown(results).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert [line.split("|")[1].strip() for line in table[2:]] == ["SDPA", "eager", "ours"]
    assert "| ours | 2 s | 3.0 GB | 1.0 GB | 2.50x, 0.50x | 40.0% |" in table
    assert "the process was killed" in table[3]
    assert "10 GFLOP/s in float32" in lines[0] and "2 threads" in lines[0]
    assert "largest relative difference 2.0e-06 (`sam.x`)" in lines[-1]


def test_the_picture_has_a_bar_for_every_row_that_was_measured(results):
    time, memory = draw_picture(results).axes
    assert [bar.get_width() for bar in time.patches] == [5, 2]
    assert [bar.get_width() for bar in memory.patches] == [6e9, 3e9]
    assert time.patches[0].get_facecolor() != time.patches[1].get_facecolor()


def test_the_report_is_three_files_without_the_folder_in_them(results, tmp_path):
    write_report(results, tmp_path / "new" / "folder")
    files = {path.name: path for path in (tmp_path / "new" / "folder").iterdir()}
    assert files.keys() == {"benchmark.json", "benchmark.md", "benchmark.png"}
    assert "somewhere" not in files["benchmark.json"].read_text()
    assert json.loads(files["benchmark.json"].read_text())["settings"]["model"] == "small"
    assert Image.open(files["benchmark.png"]).size > (300, 60)
