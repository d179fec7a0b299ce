import json
import re
import sys

import pytest

from benchmark import run
from benchmark.measure import Measurement
from benchmark.run import benchmark_main


@pytest.fixture(autouse=True)
def known_rates(monkeypatch):
    """The machine's rates take seconds to measure."""
    rates = iter([{"float32": 1e9, "bfloat16": 5e9, "copy": 1e9}, {"float32": 3e9, "bfloat16": 4e9, "copy": 2e9}])
    monkeypatch.setattr(run, "machine_rates", lambda device, threads, dtypes: next(rates))


def test_one_command_measures_rows_and_gradients_and_writes_the_report(tmp_path, monkeypatch, capsys):
    flags = "--model small --device cpu --threads 1 --repeats 1 --rows step/sdpa/float32 step/ours/float32"
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *flags.split(), "--output_dir", str(tmp_path / "out")])
    benchmark_main()
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in printed[:2]] == ["step/sdpa/float32", "step/ours/float32"]
    written = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert written["machine"]["rates"] == {"float32": 3e9, "bfloat16": 5e9, "copy": 2e9}
    assert [row["name"] for row in written["rows"]] == ["step/sdpa/float32", "step/ours/float32"]
    assert all(row["peak_bytes"] > 50e6 and row["median_seconds"] > 0 for row in written["rows"])
    assert max(worst["difference"] for worst in written["gradients"].values()) < 1e-3


def test_a_row_that_fails_is_reported_and_fails_the_command_after_the_others(tmp_path, monkeypatch, capsys):
    def measure(build, *_):
        return Measurement(error="killed") if build.args[1] == "sdpa" else Measurement([1.0], 10**9, 10**8)

    monkeypatch.setattr(run, "measure_in_fresh_process", measure)
    flags = "--model small --gradients False --rows step/sdpa/float32 step/ours/float32"
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *flags.split(), "--output_dir", str(tmp_path)])
    with pytest.raises(SystemExit, match="^1$"):
        benchmark_main()
    assert "error: not measured: step/sdpa/float32\n" in capsys.readouterr().err
    assert "| ours | 1 s |" in (tmp_path / "benchmark.md").read_text()


@pytest.mark.parametrize("flags", [["--model", "vit_x"], ["--rows", "nothing"]])
def test_wrong_flags_end_in_a_message(flags, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *flags])
    with pytest.raises(SystemExit):
        benchmark_main()
    assert re.search("^error: .*(vit_x|nothing)", capsys.readouterr().err, re.MULTILINE)
