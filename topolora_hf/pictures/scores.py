"""Pictures of scores: precision-recall curves, reliability diagram, and how the scores of a set are spread.

They are drawn from small counts kept of every image, so a set of any size fits in memory.
"""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..metrics.calibration import Reliability
from ..metrics.report import bootstrap_intervals, score_set
from ..metrics.thresholds import ThresholdCounts
from .figures import BLUE, GREEN, VERMILION, new_figure, save_figure, unit_rgb

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LINE, _MARK, _SECOND = unit_rgb(BLUE), unit_rgb(VERMILION), unit_rgb(GREEN)
_FAINT = "0.7"
_AT_MOST_DRAWN = 100  # faint curves of single images; more make a blot


def save_precision_recall(
    path: str | os.PathLike, counts: Sequence[ThresholdCounts], threshold: float | None = None
) -> None:
    """Save the precision-recall curve of a set: of all its pixels together, and faintly of single images.

    Args:
        path: The picture to write, its kind by its ending (PNG, PDF, SVG); its folder is made when it is missing.
        counts: One an image, of `topolora_hf.metrics.threshold_counts`, all at the same thresholds.
        threshold: In [0, 1]; the nearest point of the curve is marked, with its Dice.

    Raises:
        ValueError: If there are no images, their thresholds differ, nothing is foreground in any of them, or the
            threshold leaves [0, 1].
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
    _draw_lines_of_equal_dice(axes)
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
        path: The picture to write, its kind by its ending (PNG, PDF, SVG); its folder is made when it is missing.
        reliabilities: One an image, of `topolora_hf.metrics.reliability`, all with the same number of bins.

    Raises:
        ValueError: If there are no images, their bins differ, or there is no pixel in any of them.
    """
    pooled = sum(reliabilities[1:], start=reliabilities[0]) if reliabilities else None
    if pooled is None or not pooled.pixels.any():
        raise ValueError(f"there is nothing to draw in {path}: no pixel in {len(reliabilities)} images")
    figure = new_figure(4.8, 6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    edges = np.linspace(0, 1, len(pooled.pixels) + 1)
    upper.plot((0, 1), (0, 1), color=_FAINT, linestyle="--", label="calibrated")
    label = f"all pixels, calibration error {pooled.error:.3f}"
    upper.plot(pooled.mean_probability, pooled.foreground_fraction, "o-", color=_LINE, markersize=4, label=label)
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="fraction that is foreground", title="reliability")
    upper.legend(loc="best", frameon=False)
    lower.stairs(pooled.pixels / pooled.pixels.sum(), edges, fill=True, color=_LINE, alpha=0.6)
    lower.set(yscale="log", ylabel="share of pixels", xlabel="predicted probability of foreground")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    save_figure(figure, path)


def save_score_distribution(path: str | os.PathLike, rows: Sequence[Mapping[str, object]]) -> None:
    """Save how the scores of a set are spread: every image a dot, quartiles as a box, the mean with its interval.

    Args:
        path: The picture to write, its kind by its ending (PNG, PDF, SVG); its folder is made when it is missing.
        rows: One an image, as for `topolora_hf.metrics.score_set`. NaN is passed over; errors (`ece` and names that
            end in `_error`), of which less is better, get panels of their own beside the scores.

    Raises:
        ValueError: As for `score_set`, or if no score is defined anywhere.
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
    for axes, (title, names) in zip(
        figure.subplots(1, len(panels), width_ratios=widths, squeeze=False)[0], panels.items(), strict=True
    ):
        for place, name in enumerate(names):
            _draw_spread(axes, place, [float(row[name]) for row in rows], means[name], intervals[name])
        axes.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names], fontsize=8)
        axes.set(title=title, xlim=(-0.7, len(names) - 0.3))
        axes.set_ylim(bottom=0, top=1.01 if title == "scores" else None)
        axes.grid(axis="y", alpha=0.3)
    figure.supxlabel(f"{len(rows)} images; dots: images, box: quartiles, bar: mean and its 95 % interval", fontsize=8)
    save_figure(figure, path)


def _draw_lines_of_equal_dice(axes: "Axes") -> None:
    for dice in (0.2, 0.4, 0.6, 0.8):
        # Dice = 2 P R / (P + R), solved for P; it ends where P is 1.
        recall = np.linspace(dice / (2 - dice), 1, 100)
        axes.plot(recall, dice * recall / (2 * recall - dice), color=_SECOND, linewidth=0.6, linestyle=":", zorder=1)
        label = axes.text(dice, dice, f"Dice {dice}", ha="center", va="center", fontsize=7, color=_SECOND, zorder=1)
        label.set_bbox({"color": "white", "pad": 1})


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
