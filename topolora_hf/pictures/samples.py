"""Grids of samples: image, ground truth, probability and errors.

A sample has `id`, `image` (H, W, 3) uint8, `mask` (K, H, W) 0/1, `probabilities` (K, H, W) float in [0, 1], `masks`
(K, H, W) bool, what was predicted, and, optionally, `valid_mask` (H, W).
"""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..metrics.masks import as_mask
from ..metrics.overlap import dice
from .classes import SEVERAL, class_colours, error_colours, legend_of, mix_colours
from .figures import Colour, new_figure, save_figure, unit_rgb
from .overlay import error_overlay

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ONE_CLASS = ("foreground",)
_A_LINE = 8  # names of a legend


def save_samples(
    path: str | os.PathLike,
    rows: Sequence[Mapping[str, object]],
    labels: Sequence[str] = _ONE_CLASS,
) -> None:
    """Save a grid with one line a sample: image, ground truth, predicted probability, errors.

    Args:
        path: The picture to write, its kind by its ending (PNG, PDF, SVG); its folder is made when it is missing.
        rows: Samples, at least one, whose sizes may differ.
        labels: The K names of the classes.
    """
    captions = [f"{_shorten(str(row['id']))}   {_in_words(row, labels)}" for row in rows]
    _save_grid(path, rows, captions, labels)


class BestAndWorst:
    """Of all samples that are added, keeps the `count` with the highest and the `count` with the lowest Dice.

    Of several classes it is the mean over those where it is defined.

    Attributes:
        ranked: (Dice, sample), best first.
    """

    def __init__(self, count: int = 3):
        if count < 1:
            raise ValueError(f"count must be 1 or more, got {count}")
        self.count = count
        self.ranked: list[tuple[float, Mapping[str, object]]] = []

    def add(self, sample: Mapping[str, object]) -> None:
        """Take a sample, unless its Dice is undefined."""
        if defined := [score for score in _dice_of(sample) if not math.isnan(score)]:
            self.ranked.append((sum(defined) / len(defined), sample))
            self.ranked.sort(key=lambda pair: -pair[0])
            if len(self.ranked) > 2 * self.count:
                del self.ranked[self.count]


def save_best_and_worst(
    path: str | os.PathLike,
    rows: Iterable[Mapping[str, object]],
    labels: Sequence[str] = _ONE_CLASS,
    count: int = 3,
) -> None:
    """Save the `count` samples with the highest and the lowest Dice, as `save_samples` draws them, best first.

    The rows may come from a generator: no more than `2 * count` are kept. It is a ValueError if no Dice is defined.
    """
    keeper = BestAndWorst(count)
    for row in rows:
        keeper.add(row)
    captions = [
        f"{'best' if place < (len(keeper.ranked) + 1) // 2 else 'worst'}: {_shorten(str(row['id']))}   "
        + _in_words(row, labels)
        for place, (_, row) in enumerate(keeper.ranked)
    ]
    _save_grid(path, [row for _, row in keeper.ranked], captions, labels)


def _dice_of(row: Mapping[str, object]) -> list[float]:
    """Of each class."""
    return [dice(found, true, row.get("valid_mask")) for found, true in zip(row["masks"], row["mask"], strict=True)]


def _in_words(row: Mapping[str, object], labels: Sequence[str]) -> str:
    """Dice, of the first classes by name; that of a class that is neither there nor found is not defined."""
    if len(labels) == 1:
        return f"Dice {_dice_of(row)[0]:.3f}"
    scores = [
        f"{_shorten(label, 20)} {'-' if math.isnan(score) else f'{score:.3f}'}"
        for label, score in zip(labels[:6], _dice_of(row), strict=False)
    ]
    return f"Dice: {', '.join(scores)}{', ...' * (len(labels) > 6)}"


def _save_grid(
    path: str | os.PathLike, rows: Sequence[Mapping[str, object]], captions: Sequence[str], labels: Sequence[str]
) -> None:
    """One line a sample, under its caption."""
    if not rows:
        raise ValueError(f"there is no sample to draw in {path}")
    titles = ("image", "ground truth", "predicted probability", "errors")
    panel, caption, margin = 3.2, 0.26, 0.08  # inches
    heights = [panel * len(row["image"]) / row["image"].shape[1] for row in rows]
    overlap = any((row[masks].sum(0) > 1).any() for row in rows for masks in ("mask", "masks"))
    names = legend_of(labels, overlap)
    below = 0.6 + 0.2 * (max(0, len(names) - 1) // _A_LINE)
    width, height = len(titles) * (panel + margin) + margin, sum(heights) + (caption + margin) * len(rows) + below
    figure = new_figure(width, height, layout=None)
    top = height - 0.3
    for index, (row, row_height) in enumerate(zip(rows, heights, strict=True)):
        top -= caption + row_height
        for column, (title, picture) in enumerate(zip(titles, _sample_panels(row), strict=True)):
            left = margin + column * (panel + margin)
            axes = figure.add_axes((left / width, top / height, panel / width, row_height / height))
            axes.imshow(picture, cmap="gray", vmin=0, vmax=1, aspect="auto")
            axes.set_axis_off()
            if index == 0:
                figure.text((left + panel / 2) / width, (height - 0.2) / height, title, ha="center", weight="bold")
        figure.text(margin / width, (top + row_height + 0.07) / height, captions[index], parse_math=False)
        top -= margin
    _add_legend(figure, error_colours(len(labels)), "lower right")
    _add_legend(figure, names, "lower left")
    save_figure(figure, path)


def _add_legend(figure: "Figure", names: Mapping[str, Colour], place: str) -> None:
    from matplotlib.patches import Patch

    if names:
        handles = [
            Patch(facecolor=unit_rgb(rgb), edgecolor="0.3" if min(rgb) == 255 else unit_rgb(rgb), label=name)
            for name, rgb in names.items()
        ]
        figure.legend(handles=handles, loc=place, ncols=min(len(names), _A_LINE), frameon=False, borderaxespad=0.2)


def _sample_panels(row: Mapping[str, object]) -> tuple[np.ndarray, ...]:
    """Image, ground truth, probability and errors of one sample, the two maps grey where nothing is scored."""
    image, valid_mask, count = row["image"], row.get("valid_mask"), len(row["mask"])
    colours = class_colours(count) if count > 1 else [(255, 255, 255)]
    maps = [mix_colours(np.asarray(row[name]), colours) for name in ("mask", "probabilities")]
    maps[0][np.asarray(row["mask"]).sum(0) > 1] = unit_rgb(SEVERAL)
    if valid_mask is not None:
        for panel in maps:
            panel[~as_mask(valid_mask, "valid_mask")] = 0.25
    return image, *maps, np.asarray(error_overlay(image, row["masks"], row["mask"], valid_mask))


def _shorten(text: str, length: int = 60) -> str:
    return text if len(text) <= length else f"...{text[3 - length :]}"
