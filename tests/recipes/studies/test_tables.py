import math
import statistics

import pandas as pd
import pytest

from engine.tables import (
    Table,
    as_latex,
    as_markdown,
    calibration_table,
    collect,
    cost_table,
    escape_latex,
    matrix_table,
    notes,
    score_table,
    summarise,
)
from topolora_hf.files import write_json


def runs_of(**values) -> pd.DataFrame:
    """Three runs of method a."""
    return pd.DataFrame({"run": list("xyz"), "state": "done", "method": "a", "seed": [0, 1, 2], **values})


def test_a_run_is_a_row_of_its_labels_and_numbers(make_job):
    done, waiting = make_job("done", seed=4), make_job("waiting")
    done.directory.mkdir()
    scores = {"dice": 0.5, "bfscore": None, "seed": 9, "split": "test", "intervals": {"dice": [0.4, 0.6]}, "seconds": 1}
    write_json(done.directory / "metrics.json", scores)
    write_json(done.directory / "resources.json", {"seconds": 2.5, "machine": "abacus"})
    rows = collect([done, waiting]).to_dict("records")
    assert math.isnan(rows[0].pop("bfscore"))
    expected = {"run": "done", "state": "done", "method": "a", "seed": 4, "dice": 0.5, "split": "test", "seconds": 2.5}
    assert rows[0] == expected | {"machine": "abacus"}
    assert rows[1]["state"] == "to do" and math.isnan(rows[1]["dice"])


def test_mean_and_sample_standard_deviation_are_those_of_the_runs_that_have_the_number():
    values = [0.7, 0.8, 0.84]
    (row,) = summarise(runs_of(dice=values, iou=[0.5, math.nan, 0.7]), ["method"]).to_dict("records")
    assert row["dice"] == pytest.approx(0.78)
    assert row["dice_std"] == pytest.approx(statistics.stdev(values))
    assert (row["iou"], row["iou_n"]) == (pytest.approx(0.6), 2)
    (table,) = score_table(summarise(runs_of(dice=values, iou=[0.5, math.nan, 0.7]), ["method"]), ["method"])
    assert table.headings == ["method", "Dice", "IoU", "runs"]
    assert table.rows == [["a", "0.780 ± 0.072†", "0.600 ± 0.141† (2)", "3"]]


def test_a_single_run_has_no_deviation_and_an_undefined_score_is_a_dash():
    runs = runs_of(dice=[0.7, math.nan, math.nan], ece=math.nan, recall=[0.9, 0.9, 0.9]).assign(method=list("abc"))
    (table,) = score_table(summarise(runs, ["method"]), ["method"])
    assert [row[1] for row in table.rows] == ["0.700", "–", "–"]
    assert "ECE" not in table.headings


def test_failed_and_missing_runs_are_counted():
    runs = runs_of(dice=[0.7, math.nan, math.nan]).assign(state=["done", "failed", "to do"])
    (table,) = score_table(summarise(runs, ["method"]), ["method"])
    assert table.rows == [["a", "0.700 (1)", "1 of 3, 1 failed"]]
    assert "1 done, 1 failed, 1 to do" in " ".join(notes(runs, "python x"))


def test_costs_are_of_what_was_trained():
    runs = runs_of(trainable_parameters=[1.5e6, 1.5e6, math.nan], seconds_per_step=[0.2, 0.4, math.nan])
    (table,) = cost_table(runs.assign(peak_memory_bytes=[1e9, 3e9, 8e9]), ["method"])
    assert table.headings == ["method", "trainable", "time per step", "peak memory"]
    assert table.rows == [["a", "1.50 M", "300 ms", "2.0 GB"]]
    assert cost_table(runs.drop(columns="trainable_parameters"), ["method"]) == []


def test_calibration_has_the_columns_that_runs_have():
    (table,) = calibration_table(
        summarise(runs_of(ece=[0.1, 0.1, 0.1], ece_foreground=math.nan), ["method"]), ["method"]
    )
    assert table.headings == ["method", "ECE", "runs"]
    assert calibration_table(summarise(runs_of(dice=0.5), ["method"]), ["method"]) == []


def test_a_matrix_has_a_row_a_source_and_a_column_a_target():
    sources, targets = ["drive", "drive", "stare"], ["drive", "stare", "stare"]
    summary = summarise(runs_of(dice=[0.8, 0.7, 0.6], on=targets).assign(method=sources), ["method", "on"])
    table = matrix_table(summary, "dice", ["method"], "on")
    assert table.headings == ["method", "drive", "stare"]
    assert table.rows == [["drive", "0.800", "0.700"], ["stare", "–", "0.600"]]


def test_notes_state_seeds_steps_machine_time_and_command():
    text = " ".join(notes(runs_of(seconds=[3600.0, 1800.0, 60.0], machine="abacus", steps=2500), "python x.py"))
    for part in ("seeds 0, 1, 2", "steps of a run: 2500", "abacus", "1 h 31 min", "python x.py", "0.05"):
        assert part in text


def test_latex_escapes_every_symbol_that_means_something_to_it():
    escaped = escape_latex(r"a_b & 5% of $x^2 \ {y} ~ #1 ± 0.1†")
    assert escaped == (
        r"a\_b \& 5\% of \$x\textasciicircum{}2 \textbackslash{} \{y\} \textasciitilde{} \#1 $\pm$ 0.1$^\dagger$"
    )


def test_tables_are_booktabs_and_markdown():
    table = Table("Scores of a_b", ["data set", "method", "Dice"], [["a|b", "c_d", "0.5 ± 0.1"]], labels=2)
    latex = as_latex(table)
    for part in (
        r"\begin{tabular}{llr}",
        r"\toprule",
        r"data set & method & Dice \\",
        r"a|b & c\_d & 0.5 $\pm$ 0.1 \\",
    ):
        assert part in latex
    assert latex.index(r"\toprule") < latex.index(r"\midrule") < latex.index("0.5") < latex.index(r"\bottomrule")
    assert as_markdown(table).splitlines() == [
        "## Scores of a_b",
        "",
        "| data set | method | Dice |",
        "| --- | --- | ---: |",
        r"| a\|b | c_d | 0.5 ± 0.1 |",
    ]
