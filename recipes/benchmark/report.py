"""The results as JSON, as a Markdown table and as a picture."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.arguments import BenchmarkArguments
from benchmark.jobs import Group, Row
from benchmark.measure import Measurement
from studies.engine.machine import describe_machine, format_bytes, format_seconds
from topolora_hf.files import write_json
from topolora_hf.pictures.figures import BLUE, new_figure, unit_rgb

_OURS, _THEIRS = unit_rgb(BLUE), "#999999"
_PACKAGES = ("torch", "transformers", "peft", "monai")


@dataclass
class Results:
    """One run.

    Attributes:
        args: its settings.
        groups: what was measured, in the table's order; those without a measured row are left out.
        rows: in the order in which they were measured.
        measurements: by row's name.
        rates: FLOP/s by dtype and bytes/s of a copy, as of `machine_rates`, best of before and after the rows.
        gradients: as of `compare_gradients`, or None.
    """

    args: BenchmarkArguments
    groups: list[Group]
    rows: list[Row]
    measurements: dict[str, Measurement] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    gradients: dict[str, dict] | None = None

    def rows_of(self, group: Group) -> list[Row]:
        """In the table's order: theirs before ours."""
        return sorted((row for row in self.rows if row.group == group.name), key=lambda row: row.ours)

    def limit(self, row: Row) -> float | None:
        """Return the seconds that the machine's rates allow; None if neither FLOPs nor bytes are known.

        It is the longer of all FLOPs at the rate of matrix products and all bytes at the rate of a copy.
        """
        measured = self.measurements[row.name]
        limits = []
        if measured.flops and row.dtype in self.rates:
            limits.append(measured.flops / self.rates[row.dtype])
        if measured.least_bytes:
            limits.append(measured.least_bytes / self.rates["copy"])
        return max(limits, default=None) if row.dtype in self.rates else None

    def ratios(self, row: Row, group: Group, reference: str) -> tuple[float, float] | None:
        """Return the speed and the memory relative to the reference; None if either was not measured."""
        other = self.measurements.get(reference.format(dtype=row.dtype))
        own = self.measurements[row.name]
        if other is None or other.error or own.error:
            return None
        memory = [getattr(side, f"{group.memory}_bytes") for side in (own, other)]
        return other.median / own.median, memory[0] / memory[1] if memory[1] else float("nan")


def write_report(results: Results, directory: str | Path) -> None:
    """Write benchmark.json, benchmark.md and benchmark.png into a directory, made when missing."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "benchmark.json", as_json(results))
    (directory / "benchmark.md").write_text(as_markdown(results), encoding="utf-8")
    draw_picture(results).savefig(directory / "benchmark.png")


def as_json(results: Results) -> dict:
    """Return everything that was measured, and what follows from it."""
    settings = asdict(results.args)
    settings.pop("output_dir")
    return {
        "settings": settings,
        "machine": {"description": describe_machine(results.args.threads, results.args.device), "rates": results.rates},
        "packages": {name: version(name) for name in _PACKAGES},
        "gradients": results.gradients,
        "order": [row.name for row in results.rows],
        "rows": [_row_as_json(results, group, row) for group in results.groups for row in results.rows_of(group)],
    }


def _row_as_json(results: Results, group: Group, row: Row) -> dict:
    measured = results.measurements[row.name]
    values = {"name": row.name, "help": row.help, "ours": row.ours, **asdict(measured)}
    if measured.error:
        return values
    limit = results.limit(row)
    references = {label: results.ratios(row, group, reference) for label, reference in group.references.items()}
    return values | {
        "median_seconds": measured.median,
        "limit_seconds": limit,
        "fraction_of_limit": limit and limit / measured.median,
        "against": {label: {"speed": pair[0], "memory": pair[1]} for label, pair in references.items() if pair},
    }


def as_markdown(results: Results) -> str:
    """Write a table a group, and what has to be known to read them."""
    lines = [_introduction(results), ""]
    for group in results.groups:
        lines += [f"**{group.title}**", "", *_table(results, group), ""]
    for name, worst in (results.gradients or {}).items():
        lines.append(
            f"Gradients, float32, `{name}` against the authors' form: largest relative difference "
            f"{worst['difference']:.1e} (`{worst['parameter']}`)."
        )
    return "\n".join(lines).rstrip() + "\n"


def _introduction(results: Results) -> str:
    args, rates = results.args, results.rates
    products = ", ".join(f"{rates[dtype] / 1e9:.3g} GFLOP/s in {dtype}" for dtype in args.dtype)
    return " ".join(
        [
            f"{describe_machine(args.threads, args.device)}: matrix products {products};",
            f"copies {rates['copy'] / 1e9:.3g} GB/s.",
            ", ".join(f"{name} {version(name)}" for name in _PACKAGES) + ".",
            "Every row in fresh processes, theirs and ours by turns;",
            f"median of at least {args.rounds * args.repeats} repeats after a warm-up.",
            "Memory is the process's peak, `extra` what a repeat adds to it.",
            "The limit is the time that the definition's FLOPs (matrix products and convolutions) or least bytes take",
            "at these rates.",
        ]
    )


def _table(results: Results, group: Group) -> list[str]:
    headings = ["", f"time per {group.item}", "memory", "extra"]
    headings += [f"speed and {group.memory} memory against {label}" for label in group.references]
    headings += ["of the limit"] * _has_limit(results, group)
    lines = [_line(headings), _line(["---"] + ["---:"] * (len(headings) - 1))]
    for row in results.rows_of(group):
        measured = results.measurements[row.name]
        if measured.error:
            lines.append(_line([row.help, measured.error] + [""] * (len(headings) - 2)))
            continue
        cells = [row.help, format_seconds(measured.median)]
        cells += [format_bytes(measured.peak_bytes), format_bytes(measured.extra_bytes)]
        for reference in group.references.values():
            pair = results.ratios(row, group, reference)
            cells.append(f"{pair[0]:.2f}x, {pair[1]:.2f}x" if pair else "")
        if _has_limit(results, group):
            limit = results.limit(row)
            cells.append(f"{limit / measured.median:.1%}" if limit else "")
        lines.append(_line(cells))
    return lines


def _has_limit(results: Results, group: Group) -> bool:
    return any(results.limit(row) for row in results.rows_of(group))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def draw_picture(results: Results) -> Figure:
    """Draw bars of time and of memory for each group; ours in colour."""
    heights = [len(results.rows_of(group)) + 1.5 for group in results.groups]
    figure = new_figure(11, 0.32 * sum(heights) + 0.5)
    axes = figure.subplots(len(heights), 2, squeeze=False, height_ratios=heights)
    for group, (left, right) in zip(results.groups, axes, strict=True):
        rows = [row for row in results.rows_of(group) if not results.measurements[row.name].error]
        measured = [results.measurements[row.name] for row in rows]
        memory = [getattr(one, f"{group.memory}_bytes") for one in measured]
        _bars(left, rows, [one.median for one in measured], format_seconds)
        _bars(right, rows, memory, format_bytes)
        left.set_title(group.title, fontsize=8, loc="left")
        left.set_xlabel(f"time per {group.item}", fontsize=7)
        right.set_xlabel(f"{group.memory} memory", fontsize=7)
        right.set_yticklabels([])
    return figure


def _bars(axes: Axes, rows: Sequence[Row], values: Sequence[float], text) -> None:
    bars = axes.barh(range(len(rows)), values, color=[_OURS if row.ours else _THEIRS for row in rows])
    axes.bar_label(bars, [text(value) for value in values], padding=3, fontsize=7)
    axes.set_yticks(range(len(rows)), [row.help for row in rows], fontsize=7)
    axes.invert_yaxis()
    axes.set_xticks([])
    axes.margins(x=0.15)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
