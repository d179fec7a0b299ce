"""The script for a card runs on a CPU, and fails where values differ."""

import pytest

import gpu_check
from gpu_check import CheckArguments, Report


def test_the_script_runs_and_writes_its_tables(tmp_path, no_pictures):
    gpu_check.gpu_check(CheckArguments(device="cpu", quick=True, output_dir=str(tmp_path)))
    written = (tmp_path / "gpu_check.md").read_text()
    assert written.count("| ok |") == 8 and written.endswith("Failed: nothing\n")
    for title in (
        "Values",
        "Training tiny-random",
        "Matrix products",
        "Training step",
        "Prediction",
        "Global attention",
    ):
        assert f"\n## {title}" in written


def test_values_that_differ_fail_the_script_after_its_tables(tmp_path, monkeypatch):
    folded = gpu_check.folded_attention
    monkeypatch.setattr(gpu_check, "folded_attention", lambda *inputs: folded(*inputs) * 1.01)
    for part in ("check_training", "measure"):
        monkeypatch.setattr(gpu_check, part, lambda *_: None)
    with pytest.raises(SystemExit, match="1"):
        gpu_check.gpu_check(CheckArguments(device="cpu", quick=True, output_dir=str(tmp_path)))
    assert (
        "Failed: attention, 5 x 5, windows of 5; attention, 8 x 8, windows of 5"
        in (tmp_path / "gpu_check.md").read_text()
    )


def test_not_a_number_fails_a_check():
    report = Report()
    report.check("logits", float("nan"), 1.0)
    assert report.failed == ["logits"]
