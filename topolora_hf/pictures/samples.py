"""Grids of samples: image, ground truth, probability and errors.

A sample has `id`, `image` (H, W, 3) uint8, `mask` (H, W) 0/1, `probability` (H, W) float in [0, 1] and, optionally,
`valid_mask` (H, W). A pixel is predicted when its probability is at least the threshold.
"""

import math
import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..metrics.masks import as_mask
from ..metrics.overlap import dice
from .figures import FALSE, HIT, MISS, new_figure, save_figure, unit_rgb
from .overlay import error_overlay


def save_samples(
    path: str | os.PathLike, rows: Sequence[Mapping[str, object]], threshold: float = 0.5, max_rows: int = 6
) -> None:
    """Save a grid with one line a sample: image, ground truth, predicted probability, errors.

    Args:
        path: The picture to write, its kind by its ending (PNG, PDF, SVG); its folder is made when it is missing.
        rows: Samples, at least one, whose sizes may differ; those beyond `max_rows` are left out.
    """
    captions = [f"{_shorten(str(row['id']))}   Dice {_dice_of(row, threshold):.3f}" for row in rows[:max_rows]]
    _save_grid(path, rows[:max_rows], captions, threshold)


class BestAndWorst:
    """Of all samples that are added, keeps the `count` with the highest and the `count` with the lowest Dice.

    Attributes:
        ranked: (Dice, sample), best first.
    """

    def __init__(self, threshold: float = 0.5, count: int = 3):
        if count < 1:
            raise ValueError(f"count must be 1 or more, got {count}")
        self.threshold, self.count = threshold, count
        self.ranked: list[tuple[float, Mapping[str, object]]] = []

    def add(self, sample: Mapping[str, object]) -> None:
        """Take a sample, unless its Dice is undefined."""
        score = _dice_of(sample, self.threshold)
        if not math.isnan(score):
            self.ranked.append((score, sample))
            self.ranked.sort(key=lambda pair: -pair[0])
            if len(self.ranked) > 2 * self.count:
                del self.ranked[self.count]


def save_best_and_worst(
    path: str | os.PathLike, rows: Iterable[Mapping[str, object]], threshold: float = 0.5, count: int = 3
) -> None:
    """Save the `count` samples with the highest and the lowest Dice, as `save_samples` draws them, best first.

    The rows may come from a generator: no more than `2 * count` are kept. It is a ValueError if no Dice is defined.
    """
    keeper = BestAndWorst(threshold, count)
    for row in rows:
        keeper.add(row)
    captions = [
        f"{'best' if place < (len(keeper.ranked) + 1) // 2 else 'worst'}: {_shorten(str(row['id']))}   Dice {score:.3f}"
        for place, (score, row) in enumerate(keeper.ranked)
    ]
    _save_grid(path, [row for _, row in keeper.ranked], captions, threshold)


def _dice_of(row: Mapping[str, object], threshold: float) -> float:
    return dice(row["probability"] >= threshold, row["mask"], row.get("valid_mask"))


def _save_grid(
    path: str | os.PathLike, rows: Sequence[Mapping[str, object]], captions: Sequence[str], threshold: float
) -> None:
    """One line a sample, under its caption."""
    from matplotlib.patches import Patch

    if not rows:
        raise ValueError(f"there is no sample to draw in {path}")
    titles = ("image", "ground truth", "predicted probability", "errors")
    panel, caption, margin = 3.2, 0.26, 0.08  # inches
    heights = [panel * len(row["image"]) / row["image"].shape[1] for row in rows]
    width, height = len(titles) * (panel + margin) + margin, sum(heights) + (caption + margin) * len(rows) + 0.6
    figure = new_figure(width, height, layout=None)
    top = height - 0.3
    for index, (row, row_height) in enumerate(zip(rows, heights, strict=True)):
        top -= caption + row_height
        for column, (title, picture) in enumerate(zip(titles, _sample_panels(row, threshold), strict=True)):
            left = margin + column * (panel + margin)
            axes = figure.add_axes((left / width, top / height, panel / width, row_height / height))
            axes.imshow(picture, cmap="gray", vmin=0, vmax=1, aspect="auto")
            axes.set_axis_off()
            if index == 0:
                figure.text((left + panel / 2) / width, (height - 0.2) / height, title, ha="center", weight="bold")
        figure.text(margin / width, (top + row_height + 0.07) / height, captions[index], parse_math=False)
        top -= margin
    names = {"hit": HIT, "missed": MISS, "false": FALSE}
    legend = [Patch(color=unit_rgb(colour), label=name) for name, colour in names.items()]
    figure.legend(handles=legend, loc="lower right", ncols=3, frameon=False, borderaxespad=0.2)
    save_figure(figure, path)


def _sample_panels(row: Mapping[str, object], threshold: float) -> tuple[np.ndarray, ...]:
    """Image, ground truth, probability and errors of one sample, the two maps grey where nothing is scored."""
    image, valid_mask = row["image"], row.get("valid_mask")
    maps = [np.repeat(np.asarray(row[name], np.float32)[..., None], 3, axis=2) for name in ("mask", "probability")]
    if valid_mask is not None:
        for panel in maps:
            panel[~as_mask(valid_mask, "valid_mask")] = 0.25
    errors = error_overlay(image, row["probability"] >= threshold, row["mask"], valid_mask)
    return image, *maps, np.asarray(errors)


def _shorten(text: str, length: int = 60) -> str:
    return text if len(text) <= length else f"...{text[3 - length :]}"
