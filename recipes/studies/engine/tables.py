"""From run directories to tables: one row a run, means and deviations over seeds, Markdown and LaTeX."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from engine.jobs import METRICS, Job, State
from engine.machine import format_bytes, format_seconds
from topolora_hf.files import read_json_object, whole_file

LARGE_DEVIATION = 0.05
SCORES = {
    "dice": "Dice",
    "cldice": "clDice",
    "iou": "IoU",
    "precision": "precision",
    "recall": "recall",
    "bfscore": "boundary F",
    "relaxed_f1": "F1 within 2 px",
    "ece": "ECE",
}
_CALIBRATION = {
    "temperature": "temperature",
    "logit_bias": "bias",
    "ece_before": "ECE before",
    "ece": "ECE",
    "ece_foreground_before": "foreground ECE before",
    "ece_foreground": "foreground ECE",
}
_COSTS = {
    "trainable_parameters": ("trainable", lambda count: f"{count / 1e6:.2f} M"),
    "total_parameters": ("total", lambda count: f"{count / 1e6:.2f} M"),
    "seconds_per_step": ("time per step", format_seconds),
    "peak_memory_bytes": ("peak memory", format_bytes),
    "seconds_per_tile": ("predicting a tile", format_seconds),
    "saved_bytes": ("file", format_bytes),
}
_RUNS = ("runs_done", "runs_planned", "runs_failed")
NOTHING = "–"
_LATEX = {
    **{symbol: f"\\{symbol}" for symbol in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "†": r"$^\dagger$",
    "–": "--",
}


@dataclass(frozen=True)
class Table:
    """Texts as a reader sees them; the first `labels` columns name a row."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    labels: int = 1


def collect(jobs: Iterable[Job]) -> pd.DataFrame:
    """Make one row a run: its name, state, labels and, if it is done, every number that it measured."""
    return pd.DataFrame([_row(job) for job in jobs])


def _row(job: Job) -> dict:
    state = job.state
    row = {"run": job.name, "state": str(state), **job.labels}
    if state != State.DONE:
        return row
    resources = job.directory / "resources.json"
    measured = read_json_object(job.directory / METRICS) | (read_json_object(resources) if resources.exists() else {})
    for name, value in measured.items():
        if name not in row and not isinstance(value, (Mapping, list)):
            row[name] = math.nan if value is None else value
    return row


def summarise(runs: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Make one row for each combination of keys, in the order of the runs.

    Args:
        runs: as `collect` returns them.
        keys: labels that name a row.

    Returns:
        The keys; `runs_done`, `runs_planned` and `runs_failed`; and for each number x of the runs its mean `x`, its
        sample standard deviation `x_std` (NaN for a single value), and `x_n`, how many runs have it. NaN is left out.
    """
    named = {"run", "state", "seed", *keys}
    measures = [name for name in runs.columns if name not in named and pd.api.types.is_numeric_dtype(runs[name])]
    rows = []
    for values, group in runs.groupby(list(keys), sort=False):
        row = dict(zip(keys, values, strict=True))
        row |= {"runs_done": (group["state"] == State.DONE).sum(), "runs_planned": len(group)}
        row["runs_failed"] = (group["state"] == State.FAILED).sum()
        for name in measures:
            row |= {name: group[name].mean(), f"{name}_std": group[name].std(ddof=1), f"{name}_n": group[name].count()}
        rows.append(row)
    return pd.DataFrame(rows)


def score_table(summary: pd.DataFrame, keys: Sequence[str]) -> list[Table]:
    """Make the table of scores, mean and deviation."""
    return mean_table("Scores", summary, keys, SCORES)


def calibration_table(summary: pd.DataFrame, keys: Sequence[str]) -> list[Table]:
    """Make the table of calibration errors, and of the fitted calibration if runs have one."""
    return mean_table("Calibration", summary, keys, _CALIBRATION)


def cost_table(runs: pd.DataFrame, keys: Sequence[str]) -> list[Table]:
    """Make the table of parameters, time and memory: means over the runs that trained."""
    if "trainable_parameters" not in runs:
        return []
    present = {name: column for name, column in _COSTS.items() if name in runs}
    means = runs[runs["trainable_parameters"].notna()].groupby(list(keys), sort=False)[list(present)].mean()
    rows = [
        [*(str(row[key]) for key in keys), *(_cost(row[name], text) for name, (_, text) in present.items())]
        for row in means.reset_index().to_dict("records")
    ]
    headings = [*headings_of(keys), *(heading for heading, _ in present.values())]
    return [Table("Parameters, time and memory", headings, rows, len(keys))]


def matrix_table(summary: pd.DataFrame, measure: str, keys: Sequence[str], across: str) -> Table:
    """Make a table of one measure; `keys` name the rows, the values of `across` the columns."""
    columns = list(dict.fromkeys(summary[across]))
    cells: dict[tuple, dict] = {}
    for row in summary.to_dict("records"):
        cells.setdefault(tuple(str(row[key]) for key in keys), {})[row[across]] = format_mean(row, measure)
    rows = [[*named, *(of_row.get(column, NOTHING) for column in columns)] for named, of_row in cells.items()]
    title = f"{SCORES[measure]} (columns: {across.replace('_', ' ')})"
    return Table(title, [*headings_of(keys), *map(str, columns)], rows, len(keys))


def mean_table(title: str, summary: pd.DataFrame, keys: Sequence[str], columns: Mapping[str, str]) -> list[Table]:
    """Make a table of means and deviations; a column that no run has is left out, without columns the table."""
    present = [name for name in columns if name in summary and summary[name].notna().any()]
    rows = [
        [*(str(row[key]) for key in keys), *(format_mean(row, name) for name in present), _count_runs(row)]
        for row in summary.to_dict("records")
    ]
    headings = [*headings_of(keys), *(columns[name] for name in present), "runs"]
    return [Table(title, headings, rows, len(keys))] if present else []


def format_mean(row: Mapping[str, float], name: str) -> str:
    """Write mean and deviation of a row of `summarise`.

    A deviation above 0.05 is marked. If runs are missing, the number of runs follows.

    >>> format_mean({"dice": 0.8, "dice_std": 0.06, "dice_n": 2, "runs_planned": 3}, "dice")
    '0.800 ± 0.060† (2)'
    """
    mean, deviation, count = row.get(name, math.nan), row.get(f"{name}_std", math.nan), row.get(f"{name}_n", 0)
    if math.isnan(mean):
        return NOTHING
    return f"{mean:.3f}{deviation_text(deviation)}" + (f" ({count})" if count < row["runs_planned"] else "")


def deviation_text(deviation: float, digits: int = 3) -> str:
    """Write what follows a mean: nothing if there is no deviation (NaN), a mark if it is large.

    >>> deviation_text(0.0012), deviation_text(0.06, digits=4), deviation_text(math.nan)
    (' ± 0.001', ' ± 0.0600†', '')
    """
    mark = "†" if deviation > LARGE_DEVIATION else ""
    return "" if math.isnan(deviation) else f" ± {deviation:.{digits}f}{mark}"


def _count_runs(row: Mapping[str, int]) -> str:
    done, planned, failed = (row[name] for name in _RUNS)
    return (str(done) if done == planned else f"{done} of {planned}") + (f", {failed} failed" if failed else "")


def _cost(value: float, text) -> str:
    return NOTHING if math.isnan(value) else text(value)


def headings_of(keys: Sequence[str]) -> list[str]:
    """Write labels as a reader sees them."""
    return [key.replace("_", " ") for key in keys]


def notes(runs: pd.DataFrame, command_line: str) -> list[str]:
    """Write what a reader of the tables has to know."""
    trained = runs if "steps" not in runs else runs[runs["steps"] != 0]
    seeds = ", ".join(str(seed) for seed in dict.fromkeys(trained["seed"]) if seed != NOTHING)
    states = ", ".join(f"{count} {state}" for state, count in runs["state"].value_counts().items())
    remarks = [
        f"Mean ± sample standard deviation over seeds {seeds}; † marks deviations above {LARGE_DEVIATION}, a number in "
        "brackets says how many runs there are where some are missing.",
        f"Runs: {states}.",
    ]
    if "steps" in runs:
        steps = ", ".join(f"{count:.0f}" for count in runs["steps"].dropna().unique() if count)
        remarks.append(f"Optimizer steps of a run: {steps}.")
    if "machine" in runs:
        machines = "; ".join(runs["machine"].dropna().unique())
        remarks.append(f"Machine: {machines}. All runs together took {hours_text(runs['seconds'].sum())}.")
    return [*remarks, f"Command: {command_line}"]


def hours_text(seconds: float) -> str:
    """Write a time in hours and minutes."""
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def write_tables(
    directory: Path,
    title: str,
    runs: pd.DataFrame,
    summary: pd.DataFrame,
    tables: Sequence[Table],
    remarks: Sequence[str],
) -> None:
    """Write table.csv, summary.csv, summary.md and summary.tex into a directory, made when missing."""
    directory.mkdir(parents=True, exist_ok=True)
    markdown = [f"# {title}", *map(as_markdown, tables), "\n".join(f"- {remark}" for remark in remarks)]
    notes_in_latex = [f"% {remark}" for remark in remarks]
    texts = {
        "table.csv": runs.to_csv(index=False),
        "summary.csv": summary.to_csv(index=False),
        "summary.md": "\n\n".join(markdown) + "\n",
        "summary.tex": "\n".join([*notes_in_latex, *map(as_latex, tables)]) + "\n",
    }
    for name, text in texts.items():
        with whole_file(directory / name) as unfinished:
            unfinished.write_text(text, encoding="utf-8")


def as_markdown(table: Table) -> str:
    """Write a heading and a table; a bar in a text does not end its cell."""
    rule = ["---"] * table.labels + ["---:"] * (len(table.headings) - table.labels)
    rows = [[text.replace("|", "\\|") for text in row] for row in (table.headings, *table.rows)]
    return "\n".join([f"## {table.title}", "", *(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:]))])


def as_latex(table: Table) -> str:
    """Write a `table` in the manner of booktabs."""
    lines = [" & ".join(map(escape_latex, row)) + r" \\" for row in (table.headings, *table.rows)]
    columns = "l" * table.labels + "r" * (len(table.headings) - table.labels)
    return "\n".join(
        [
            "\\begin{table}\n\\centering",
            f"\\caption{{{escape_latex(table.title)}}}",
            f"\\begin{{tabular}}{{{columns}}}\n\\toprule",
            lines[0],
            "\\midrule",
            *lines[1:],
            "\\bottomrule\n\\end{tabular}\n\\end{table}",
        ]
    )


def escape_latex(text: str) -> str:
    r"""Escape a text for LaTeX.

    >>> escape_latex("detail_only ± 5 %")
    'detail\\_only $\\pm$ 5 \\%'
    """
    return "".join(_LATEX.get(character, character) for character in text)
