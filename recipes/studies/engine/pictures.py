"""Pictures of a summary: points with deviations, curves over the number of images, heat maps."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from topolora_hf.pictures.figures import BLUE, GREEN, PURPLE, SKY_BLUE, VERMILION, new_figure, unit_rgb

_MEASURES = {"dice": "Dice", "cldice": "clDice"}
_HEAT = (0.5, 0.9)  # scores from the one end of the colours to the other
_COLOURS = [unit_rgb(colour) for colour in (BLUE, VERMILION, GREEN, PURPLE, SKY_BLUE)]


def draw_points(summary: pd.DataFrame, panel: Sequence[str], line: str) -> Figure:
    """Draw a panel for each combination of some keys, a line for each value of another; deviations are whiskers."""
    panels = [(" · ".join(map(str, values)), rows) for values, rows in summary.groupby(list(panel), sort=False)]
    figure, grid = _grid(len(panels), [0.3 * len(rows) + 1 for _, rows in panels])
    for (title, rows), of_panel in zip(panels, grid, strict=True):
        for axes, (measure, name), colour in zip(of_panel, _MEASURES.items(), _COLOURS, strict=False):
            values, deviations = _values(rows, measure)
            places = np.arange(len(rows))
            axes.errorbar(values, places, xerr=np.nan_to_num(deviations), color=colour, fmt="o", capsize=3)
            axes.set_yticks(places, rows[line].astype(str), fontsize=8)
            axes.set_ylim(len(rows) - 0.5, -0.5)
            axes.set_title(title, fontsize=9, loc="left")
            axes.set_xlabel(name)
            axes.grid(alpha=0.3)
    return figure


def draw_curves(summary: pd.DataFrame, panel: str, x: str, line: str) -> Figure:
    """Draw a panel for each value of a key, and curves for each value of another over a third (logarithmic axis)."""
    panels = list(summary.groupby(panel, sort=False))
    figure, grid = _grid(len(panels), [3.6] * len(panels))
    for (title, of_set), of_panel in zip(panels, grid, strict=True):
        ticks = sorted(of_set[x].unique())
        for axes, (measure, name) in zip(of_panel, _MEASURES.items(), strict=True):
            for number, (label, rows) in enumerate(of_set.groupby(line, sort=False)):
                values, deviations = _values(rows, measure)
                colour = _COLOURS[number % len(_COLOURS)]
                axes.errorbar(rows[x], values, np.nan_to_num(deviations), color=colour, marker="o", label=label)
            axes.set_xscale("symlog", linthresh=1)  # 0 images has its place, too
            axes.set_xticks(ticks, map(str, ticks))
            axes.set_xticks([], minor=True)
            axes.set(title=title, xlabel=x.replace("_", " "), ylabel=name)
            axes.grid(alpha=0.3)
    grid[0][0].legend(fontsize=8)
    return figure


def draw_matrices(summary: pd.DataFrame, panel: str, row: str, column: str) -> Figure:
    """Draw a heat map for each value of a key; two others name its rows and columns."""
    panels = list(summary.groupby(panel, sort=False))
    figure, grid = _grid(len(panels), [3.2] * len(panels))
    for (title, rows), of_panel in zip(panels, grid, strict=True):
        for axes, (measure, name) in zip(of_panel, _MEASURES.items(), strict=True):
            _draw_matrix(axes, _with_measure(rows, measure).pivot(index=row, columns=column, values=measure))
            axes.set_title(f"{title}: {name}", fontsize=9)
            axes.set(xlabel=column.replace("_", " "), ylabel=row.replace("_", " "))
    return figure


def _draw_matrix(axes: Axes, matrix: pd.DataFrame) -> None:
    values = matrix.to_numpy(float)
    axes.imshow(values, cmap="viridis", vmin=_HEAT[0], vmax=_HEAT[1], aspect="auto")
    axes.set_xticks(range(len(matrix.columns)), matrix.columns, fontsize=8)
    axes.set_yticks(range(len(matrix.index)), matrix.index, fontsize=8)
    for (i, j), value in np.ndenumerate(values):
        if not np.isnan(value):
            colour = "black" if value > sum(_HEAT) / 2 else "white"
            axes.text(j, i, f"{value:.3f}", ha="center", va="center", color=colour)


def _grid(panels: int, heights: Sequence[float]) -> tuple[Figure, np.ndarray]:
    figure = new_figure(10, sum(heights))
    return figure, figure.subplots(panels, len(_MEASURES), squeeze=False, height_ratios=heights)


def _values(rows: pd.DataFrame, measure: str) -> tuple[np.ndarray, np.ndarray]:
    """Return means and deviations; NaN if nothing is measured yet."""
    rows = _with_measure(rows, measure)
    return rows[measure].to_numpy(float), rows[f"{measure}_std"].to_numpy(float)


def _with_measure(rows: pd.DataFrame, measure: str) -> pd.DataFrame:
    missing = {name: np.nan for name in (measure, f"{measure}_std") if name not in rows}
    return rows.assign(**missing)
