"""Plots of a run and of its scores: training curves, precision and recall, reliability, and the spread over a set.

They are drawn from small counts kept of every image, so a set of any size fits in memory. A path's ending says the kind
of picture (PNG, PDF, SVG); a missing folder is made. Where there is nothing to draw, it is a ValueError.
"""

import math
import os
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from ..metrics.calibration import Reliability
from ..metrics.report import bootstrap_intervals, score_set
from ..metrics.thresholds import ThresholdCounts
from .figures import BLUE, GREEN, PURPLE, SKY_BLUE, VERMILION, new_figure, save_figure, unit_rgb

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LINES = tuple(unit_rgb(colour) for colour in (BLUE, VERMILION, GREEN, PURPLE, SKY_BLUE))
_LINE, _MARK, _SECOND = _LINES[:3]
_FAINT = "0.7"
_AT_MOST_DRAWN = 100  # faint curves of single images; more make a blot
# Enough to follow a run by, few enough to be told apart; a history may hold more.
_PANELS = {
    "training loss": ("loss", "bce", "dice_loss", "cldice_loss"),
    "validation": ("val_dice", "val_cldice", "val_bfscore", "val_precision", "val_recall"),
    "learning rate": ("learning_rate",),
}


def save_curves(path: str | os.PathLike, history: Sequence[Mapping[str, object]]) -> None:
    """Save training losses, validation scores and the learning rate against the optimizer step.

    Args:
        history: Rows with `step` and any of the columns in `_PANELS`; numbers, or text as read back from a CSV. Values
            that are missing, `None`, empty or NaN are passed over, panels without any value are left out.
    """
    panels = {title: {name: _curve(history, name) for name in names} for title, names in _PANELS.items()}
    panels = {title: {name: curve for name, curve in drawn.items() if curve[0]} for title, drawn in panels.items()}
    panels = {title: drawn for title, drawn in panels.items() if drawn}
    if not panels:
        raise ValueError(f"the history holds nothing to draw in {path}: {len(history)} rows")
    figure = new_figure(4.6 * len(panels), 3.4)
    for axes, (title, drawn) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        _draw_curves(axes, title, drawn)
    save_figure(figure, path)


def save_precision_recall(
    path: str | os.PathLike, counts: Sequence[ThresholdCounts], threshold: float | None = None
) -> None:
    """Save the precision-recall curve of a set: of all its pixels together, and faintly of single images.

    Args:
        counts: One an image, all at the same thresholds.
        threshold: In [0, 1]; the nearest point of the curve is marked, with its Dice.

    Raises:
        ValueError: Nothing is foreground in any image, the thresholds differ, or the threshold leaves [0, 1].
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise ValueError(f"threshold must lie in [0, 1], got {threshold}")
    pooled = sum(counts[1:], start=counts[0]) if counts else None
    if pooled is None or not pooled.true:
        raise ValueError(f"there is no curve to draw in {path}: no foreground in {len(counts)} images")
    figure = new_figure(4.8, 4.8)
    axes = figure.add_subplot(xlim=(0, 1), ylim=(0, 1.01), xlabel="recall", ylabel="precision", aspect="equal")
    axes.set_title("precision and recall at every threshold")
    axes.grid(alpha=0.3)
    for dice in (0.2, 0.4, 0.6, 0.8):  # lines of equal Dice = 2 P R / (P + R), solved for P; they end where P is 1
        recall = np.linspace(dice / (2 - dice), 1, 100)
        axes.plot(recall, dice * recall / (2 * recall - dice), color=_SECOND, linewidth=0.6, linestyle=":", zorder=1)
        label = axes.text(dice, dice, f"Dice {dice}", ha="center", va="center", fontsize=7, color=_SECOND, zorder=1)
        label.set_bbox({"color": "white", "pad": 1})
    for index, image in enumerate(counts[:_AT_MOST_DRAWN] if len(counts) > 1 else ()):
        label = None if index else "single images"
        axes.plot(image.recall, image.precision, color=_FAINT, linewidth=0.6, label=label)
    name = "all pixels of the image" if len(counts) == 1 else f"all pixels of {len(counts)} images"
    axes.plot(pooled.recall, pooled.precision, color=_LINE, linewidth=1.8, label=name)
    if threshold is not None:
        nearest = int(np.abs(pooled.thresholds - threshold).argmin())
        label = f"threshold {pooled.thresholds[nearest]:.3g}: Dice {pooled.dice[nearest]:.3f}"
        axes.plot(pooled.recall[nearest], pooled.precision[nearest], "o", color=_MARK, label=label)
    axes.legend(loc="lower left", frameon=True, framealpha=0.9, edgecolor="none")
    save_figure(figure, path)


def save_reliability(path: str | os.PathLike, reliabilities: Sequence[Reliability]) -> None:
    """Save the reliability diagram of a set: how often pixels of a probability are foreground, and how many there are.

    Args:
        reliabilities: One an image, all with the same number of bins.
    """
    pooled = sum(reliabilities[1:], start=reliabilities[0]) if reliabilities else None
    if pooled is None or not pooled.pixels.any():
        raise ValueError(f"there is nothing to draw in {path}: no pixel in {len(reliabilities)} images")
    figure = new_figure(4.8, 6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot((0, 1), (0, 1), color=_FAINT, linestyle="--", label="calibrated")
    label = f"all pixels, calibration error {pooled.error:.3f}"
    upper.plot(pooled.mean_probability, pooled.foreground_fraction, "o-", color=_LINE, markersize=4, label=label)
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="fraction that is foreground", title="reliability")
    upper.legend(loc="best", frameon=False)
    edges = np.linspace(0, 1, len(pooled.pixels) + 1)
    lower.stairs(pooled.pixels / pooled.pixels.sum(), edges, fill=True, color=_LINE, alpha=0.6)
    lower.set(yscale="log", ylabel="share of pixels", xlabel="predicted probability of foreground")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    save_figure(figure, path)


def save_score_distribution(path: str | os.PathLike, rows: Sequence[Mapping[str, object]]) -> None:
    """Save how the scores of a set are spread: every image a dot, quartiles as a box, the mean with its interval.

    Args:
        rows: One an image, as for `score_set`. NaN is passed over; errors (`ece` and names that end in `_error`), of
            which less is better, get panels of their own beside the scores.
    """
    means, intervals = score_set(rows), bootstrap_intervals(rows)
    defined = [name for name in intervals if not np.isnan(means[name])]
    if not defined:
        raise ValueError(f"there is nothing to draw in {path}: no score is defined in {len(rows)} rows")
    counts = [name for name in defined if name.endswith("_error")]
    errors = [name for name in defined if name.startswith("ece")]
    scores = [name for name in defined if name not in counts + errors]
    panels = {"scores": scores, "calibration errors": errors, "topology errors": counts}
    panels = {title: names for title, names in panels.items() if names}
    figure = new_figure(0.8 * len(defined) + 2, 4.2)
    widths = [len(names) + 1 for names in panels.values()]
    subplots = figure.subplots(1, len(panels), width_ratios=widths, squeeze=False)[0]
    for axes, (title, names) in zip(subplots, panels.items(), strict=True):
        for place, name in enumerate(names):
            _draw_spread(axes, place, [float(row[name]) for row in rows], means[name], intervals[name])
        axes.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names], fontsize=8)
        axes.set(title=title, xlim=(-0.7, len(names) - 0.3))
        axes.set_ylim(bottom=0, top=1.01 if title == "scores" else None)
        axes.grid(axis="y", alpha=0.3)
    figure.supxlabel(f"{len(rows)} images; dots: images, box: quartiles, bar: mean and its 95 % interval", fontsize=8)
    save_figure(figure, path)


def _curve(history: Sequence[Mapping[str, object]], name: str) -> tuple[list[float], list[float]]:
    """Steps and values of one column, without the rows that lack it."""
    rows = [row for row in history if row.get(name) not in (None, "") and not math.isnan(float(row[name]))]
    return [float(row["step"]) for row in rows], [float(row[name]) for row in rows]


def _draw_curves(axes: "Axes", title: str, curves: Mapping[str, tuple[list[float], list[float]]]) -> None:
    from matplotlib.ticker import MaxNLocator

    for (name, (steps, values)), colour in zip(curves.items(), cycle(_LINES)):
        marker = "o" if title == "validation" or len(steps) == 1 else None
        if title == "training loss" and len(values) > 100:
            # Single steps scatter too much to be read: keep them faintly, draw their running mean.
            axes.plot(steps, values, color=colour, linewidth=0.6, alpha=0.25)
            window = len(values) // 50
            steps, values = steps[window - 1 :], np.convolve(values, np.full(window, 1 / window), mode="valid")
        label = name.removeprefix("val_").replace("_", " ")
        axes.plot(steps, values, color=colour, marker=marker, markersize=3, label=label)
    axes.set(title=title, xlabel="step")
    axes.grid(alpha=0.3)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    if title == "learning rate":
        axes.ticklabel_format(axis="y", style="scientific", scilimits=(0, 0))
    if len(curves) > 1 or title == "validation":
        axes.legend(frameon=False)


def _draw_spread(axes: "Axes", place: int, values: Sequence[float], mean: float, interval: tuple[float, float]) -> None:
    values = np.array([value for value in values if not np.isnan(value)])
    # Dots beside each other in the order of the images, so that a picture looks the same every time it is drawn.
    offsets = np.linspace(-0.25, 0.25, len(values)) if len(values) > 1 else np.zeros(1)
    axes.plot(place + offsets, values, ".", color=_LINE, markersize=3, alpha=0.5)
    axes.boxplot(
        values, positions=[place], widths=0.6, showfliers=False, manage_ticks=False, medianprops={"color": "black"}
    )
    low, high = interval if not np.isnan(interval[0]) else (mean, mean)
    axes.errorbar(place, mean, [[mean - low], [high - mean]], color=_MARK, marker="_", markersize=12, linewidth=2)
