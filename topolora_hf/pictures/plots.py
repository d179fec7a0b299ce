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
from ..metrics.report import bootstrap_intervals, rows_by_class, score_set
from ..metrics.thresholds import ThresholdCounts
from .figures import BLUE, GREEN, PURPLE, SKY_BLUE, VERMILION, new_figure, save_figure, unit_rgb

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LINES = tuple(unit_rgb(colour) for colour in (BLUE, VERMILION, GREEN, PURPLE, SKY_BLUE))
_LINE, _MARK, _SECOND = _LINES[:3]
_CLASS_LINES = tuple(unit_rgb(colour) for colour in (VERMILION, BLUE, (150, 130, 0), GREEN, PURPLE, (60, 60, 60)))
_MOST_CLASSES = 12  # that are drawn; more make a blot
_FAINT = "0.7"
_AT_MOST_DRAWN = 100  # faint curves of single images; more make a blot
# Enough to follow a run by, few enough to be told apart; a history may hold more.
_PANELS = {
    "training loss": ("loss", "bce", "dice_loss", "cldice_loss"),
    "validation": ("val_dice", "val_cldice", "val_bfscore", "val_precision", "val_recall"),
    "learning rate": ("learning_rate",),
}
_OF_CLASS = "val_dice_"


def save_curves(path: str | os.PathLike, history: Sequence[Mapping[str, object]]) -> None:
    """Save training losses, validation scores and the learning rate against the optimizer step.

    The validation Dice of each class (`val_dice_artery`) has a panel of its own.

    Args:
        history: Rows with `step` and any of the columns in `_PANELS`; numbers, or text as read back from a CSV. Values
            that are missing, `None`, empty or NaN are passed over, panels without any value are left out.
    """
    of_classes = dict.fromkeys(key for row in history for key in row if key.startswith(_OF_CLASS))
    listed = _PANELS | {"validation Dice": list(of_classes)[:_MOST_CLASSES]}
    panels = {title: {name: _curve(history, name) for name in names} for title, names in listed.items()}
    panels = {title: {name: curve for name, curve in drawn.items() if curve[0]} for title, drawn in panels.items()}
    panels = {title: drawn for title, drawn in panels.items() if drawn}
    if not panels:
        raise ValueError(f"the history holds nothing to draw in {path}: {len(history)} rows")
    figure = new_figure(4.6 * len(panels), 3.4)
    for axes, (title, drawn) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        _draw_curves(axes, title, drawn)
    save_figure(figure, path)


def save_precision_recall(
    path: str | os.PathLike,
    counts: Mapping[str, Sequence[ThresholdCounts]],
    thresholds: Sequence[float] | None = None,
) -> None:
    """Save the precision-recall curve of a set: of all its pixels together, and faintly of single images.

    Args:
        counts: Of each class, by its name, one an image, all at the same thresholds. Each class has a panel; one
            without foreground in any image has none.
        thresholds: In [0, 1], one a class; the nearest point of the curve is marked, with its Dice. They are those of a
            class's own probability, also of exclusive classes.

    Raises:
        ValueError: Nothing is foreground in any image, the thresholds differ, or a threshold leaves [0, 1].
    """
    for threshold in thresholds or ():
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must lie in [0, 1], got {threshold}")
    marked = thresholds or [None] * len(counts)
    drawn = [(name, own, mark) for (name, own), mark in zip(counts.items(), marked, strict=True)
             if any(image.true for image in own)][:_MOST_CLASSES]  # fmt: skip
    if not drawn:
        images = max(map(len, counts.values()), default=0)
        raise ValueError(f"there is no curve to draw in {path}: no foreground in {images} images")
    across = min(3, len(drawn))
    down = math.ceil(len(drawn) / across)
    figure = new_figure(4.8 * across, 4.8 * down)
    panels = figure.subplots(down, across, squeeze=False).flat
    for axes, (name, own, mark) in zip(panels, drawn, strict=False):
        title = "precision and recall at every threshold" if len(counts) == 1 else name
        _draw_precision_recall(axes, title, own, mark)
    for axes in panels:  # those that are left
        axes.set_axis_off()
    save_figure(figure, path)


def _draw_precision_recall(
    axes: "Axes", title: str, counts: Sequence[ThresholdCounts], threshold: float | None
) -> None:
    pooled = sum(counts[1:], start=counts[0])
    axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="recall", ylabel="precision", aspect="equal")
    axes.set_title(title, parse_math=False)
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


def save_reliability(path: str | os.PathLike, reliabilities: Mapping[str, Sequence[Reliability]]) -> None:
    """Save the reliability diagram of a set: how often pixels of a probability are foreground, and how many there are.

    Args:
        reliabilities: Of each class, by its name, one an image, all with the same number of bins. Each class has a
            line.
    """
    pooled = {name: sum(own[1:], start=own[0]) for name, own in reliabilities.items() if own}
    if not any(own.pixels.any() for own in pooled.values()):
        images = max(map(len, reliabilities.values()), default=0)
        raise ValueError(f"there is nothing to draw in {path}: no pixel in {images} images")
    is_one = len(pooled) == 1
    figure = new_figure(4.8, 6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot((0, 1), (0, 1), color=_FAINT, linestyle="--", label="calibrated")
    colours = [_LINE] if is_one else cycle(_CLASS_LINES)
    for (name, own), colour in zip(list(pooled.items())[:_MOST_CLASSES], colours, strict=False):
        label = f"{'all pixels' if is_one else _escaped(name)}, calibration error {own.error:.3f}"
        upper.plot(own.mean_probability, own.foreground_fraction, "o-", color=colour, markersize=4, label=label)
        edges = np.linspace(0, 1, len(own.pixels) + 1)
        look = {"fill": True, "alpha": 0.6} if is_one else {"linewidth": 1.5}
        lower.stairs(own.pixels / own.pixels.sum(), edges, color=colour, **look)
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="fraction that is foreground", title="reliability")
    upper.legend(loc="best", frameon=False)
    lower.set(yscale="log", ylabel="share of pixels", xlabel="predicted probability of foreground")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    save_figure(figure, path)


def save_score_distribution(path: str | os.PathLike, rows: Sequence[Mapping[str, object]]) -> None:
    """Save how the scores of a set are spread: every image a dot, quartiles as a box, the mean with its interval.

    Args:
        rows: One an image, as for `score_set`, or one an image and class: each class has a line of panels. NaN is
            passed over; errors (`ece` and names that end in `_error`), of which less is better, get panels of their own
            beside the scores.
    """
    means = score_set(rows)
    defined = [name for name, mean in means.items() if name != "n" and not np.isnan(mean)]
    if not defined:
        raise ValueError(f"there is nothing to draw in {path}: no score is defined in {len(rows)} rows")
    counts = [name for name in defined if name.endswith("_error") or name == "hd95"]
    errors = [name for name in defined if name.startswith("ece")]
    scores = [name for name in defined if name not in counts + errors]
    panels = {"scores": scores, "calibration errors": errors, "topology errors": counts}
    panels = {title: names for title, names in panels.items() if names}
    lines = list(rows_by_class(rows).items())[:_MOST_CLASSES]
    figure = new_figure(0.8 * len(defined) + 2, 4.2 * len(lines))
    widths = [len(names) + 1 for names in panels.values()]
    subplots = figure.subplots(len(lines), len(panels), width_ratios=widths, squeeze=False)
    for of_class, (label, own) in zip(subplots, lines, strict=True):
        own_means, intervals = score_set(own), bootstrap_intervals(own)
        for axes, (title, names) in zip(of_class, panels.items(), strict=True):
            for place, name in enumerate(names):
                if not np.isnan(own_means[name]):
                    _draw_spread(axes, place, [float(row[name]) for row in own], own_means[name], intervals[name])
            axes.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names], fontsize=8)
            axes.set_title(title if label is None else f"{label}: {title}", parse_math=False)
            axes.set(xlim=(-0.7, len(names) - 0.3))
            axes.set_ylim(bottom=0, top=1.01 if title == "scores" else None)
            axes.grid(axis="y", alpha=0.3)
    figure.supxlabel(
        f"{len(lines[0][1])} images; dots: images, box: quartiles, bar: mean and its 95 % interval", fontsize=8
    )
    save_figure(figure, path)


def _curve(history: Sequence[Mapping[str, object]], name: str) -> tuple[list[float], list[float]]:
    """Steps and values of one column, without the rows that lack it."""
    rows = [row for row in history if row.get(name) not in (None, "") and not math.isnan(float(row[name]))]
    return [float(row["step"]) for row in rows], [float(row[name]) for row in rows]


def _draw_curves(axes: "Axes", title: str, curves: Mapping[str, tuple[list[float], list[float]]]) -> None:
    from matplotlib.ticker import MaxNLocator

    is_validation = title.startswith("validation")
    for (name, (steps, values)), colour in zip(curves.items(), cycle(_CLASS_LINES if "Dice" in title else _LINES)):
        marker = "o" if is_validation or len(steps) == 1 else None
        if title == "training loss" and len(values) > 100:
            # Single steps scatter too much to be read: keep them faintly, draw their running mean.
            axes.plot(steps, values, color=colour, linewidth=0.6, alpha=0.25)
            window = len(values) // 50
            steps, values = steps[window - 1 :], np.convolve(values, np.full(window, 1 / window), mode="valid")
        label = _escaped(name.removeprefix(_OF_CLASS).removeprefix("val_").replace("_", " "))
        axes.plot(steps, values, color=colour, marker=marker, markersize=3, label=label)
    axes.set(title=title, xlabel="step")
    axes.grid(alpha=0.3)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    if title == "learning rate":
        axes.ticklabel_format(axis="y", style="scientific", scilimits=(0, 0))
    if len(curves) > 1 or is_validation:
        axes.legend(frameon=False)


def _escaped(label: str) -> str:
    """A legend's text as it is: matplotlib reads formulas between dollars, and leaves out what begins with `_`."""
    return label.replace("$", r"\$").lstrip("_") or "-"


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
