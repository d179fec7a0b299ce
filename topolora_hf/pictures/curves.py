"""A run's training curves."""

import math
import os
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from .figures import BLUE, GREEN, PURPLE, SKY_BLUE, VERMILION, new_figure, save_figure, unit_rgb

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Enough to follow a run by, few enough to be told apart; a history may hold more.
_VALIDATION_CURVES = tuple(f"val_{name}" for name in ("dice", "cldice", "bfscore", "precision", "recall"))
_LINES = tuple(unit_rgb(colour) for colour in (BLUE, VERMILION, GREEN, PURPLE, SKY_BLUE))


def save_curves(path: str | os.PathLike, history: Sequence[Mapping[str, object]]) -> None:
    """Save training losses, validation scores and the learning rate against the optimizer step.

    Args:
        path: The picture to write, its kind by its ending (PNG, PDF, SVG); its folder is made when it is missing.
        history: Rows with `step` and any of `loss`, `bce`, `dice_loss`, `cldice_loss`, `learning_rate`,
            `val_dice`, `val_cldice`, `val_bfscore`, `val_precision`, `val_recall`; numbers, or text as read back
            from a CSV. Values that are missing, `None`, empty or NaN are passed over, panels without any value are
            left out.

    Raises:
        ValueError: If no row holds anything to draw.
    """
    columns = list(dict.fromkeys(name for row in history for name in row))
    panels = {
        "training loss": [name for name in ("loss", "bce", "dice_loss", "cldice_loss") if name in columns],
        "validation": [name for name in _VALIDATION_CURVES if name in columns],
        "learning rate": [name for name in columns if name == "learning_rate"],
    }
    curves = {title: {name: _curve(history, name) for name in names} for title, names in panels.items()}
    curves = {title: {name: curve for name, curve in drawn.items() if curve[0]} for title, drawn in curves.items()}
    curves = {title: drawn for title, drawn in curves.items() if drawn}
    if not curves:
        raise ValueError(f"the history holds nothing to draw in {path}: {len(history)} rows, columns {columns}")
    figure = new_figure(4.6 * len(curves), 3.4)
    for axes, (title, drawn) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        _draw_curves(axes, title, drawn)
    save_figure(figure, path)


def _curve(history: Sequence[Mapping[str, object]], name: str) -> tuple[list[float], list[float]]:
    """Steps and values of one column, without the rows that lack it."""
    steps, values = [], []
    for row in history:
        value = row.get(name)
        if value not in (None, "") and not math.isnan(float(value)):
            steps.append(float(row["step"]))
            values.append(float(value))
    return steps, values


def _draw_curves(axes: "Axes", title: str, curves: Mapping[str, tuple[list[float], list[float]]]) -> None:
    from matplotlib.ticker import MaxNLocator

    for (name, (steps, values)), colour in zip(curves.items(), cycle(_LINES)):
        label = name.removeprefix("val_").replace("_", " ")
        marker = "o" if title == "validation" or len(steps) == 1 else None
        if title == "training loss" and len(values) > 100:
            # Single steps scatter too much to be read: keep them faintly, draw their running mean.
            axes.plot(steps, values, color=colour, linewidth=0.6, alpha=0.25)
            window = len(values) // 50
            steps, values = steps[window - 1 :], np.convolve(values, np.full(window, 1 / window), mode="valid")
        axes.plot(steps, values, color=colour, marker=marker, markersize=3, label=label)
    axes.set(title=title, xlabel="step")
    axes.grid(alpha=0.3)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    if title == "learning rate":
        axes.ticklabel_format(axis="y", style="scientific", scilimits=(0, 0))
    if len(curves) > 1 or title == "validation":
        axes.legend(frameon=False)
