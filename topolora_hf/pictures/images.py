"""Pictures for people: a mask over its image, what was hit and missed, grids of samples, training curves.

Colours are after Okabe and Ito, chosen to stay apart under the common colour vision deficiencies. matplotlib is used
through `Figure` alone, so no display, backend setting or pyplot state is touched.
"""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from PIL import Image
from scipy.ndimage import binary_erosion

from ..metrics.masks import as_mask
from ..metrics.overlap import dice

SKY_BLUE = (86, 180, 233)
YELLOW = (240, 228, 66)
BLUE = (0, 114, 178)
VERMILION = (213, 94, 0)
GREEN = (0, 158, 115)
PURPLE = (204, 121, 167)
# Brighter than the palette's own: the one hides in a reddish retina as a grey veil, the other in a dim background.
CYAN = (0, 229, 255)
BRIGHT_VERMILION = (255, 105, 30)
HIT, MISS, FALSE = SKY_BLUE, BRIGHT_VERMILION, YELLOW
_OUTSIDE = 0.4  # brightness of what lies outside the field of view
# Enough to follow a run by, few enough to be told apart; a history may hold more.
_VALIDATION_CURVES = tuple(f"val_{name}" for name in ("dice", "cldice", "bfscore", "precision", "recall"))


def overlay(
    image: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int] = CYAN, opacity: float = 0.4
) -> Image.Image:
    """Lay a mask over its image: a translucent fill inside a crisp, opaque outline.

    The outline runs inside the mask and grows with the image, so a structure a pixel or two wide is drawn whole and
    opaque, while a polyp can still be seen through its fill.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W), bool or 0/1.
        colour: RGB, 0 to 255.
        opacity: Of the fill, in [0, 1]; 0 leaves the outline only.

    Returns:
        PIL.Image.Image: RGB, of the image's size.

    Raises:
        ValueError: If an array has another shape or dtype, or opacity leaves [0, 1].

    Example:
        >>> image = np.full((64, 64, 3), 200, np.uint8)
        >>> mask = np.zeros((64, 64), bool)
        >>> mask[16:48, 16:48] = True
        >>> picture = overlay(image, mask, colour=(0, 0, 0), opacity=0.5)
        >>> [picture.getpixel(place)[0] for place in ((8, 8), (16, 16), (32, 32))]
        [200, 0, 100]
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must lie in [0, 1], got {opacity}")
    mask = _mask_of(image, mask, "mask")
    thickness = max(1, round(max(mask.shape) / 500))
    # A structure cut by the image's edge gets no outline along the cut.
    inside = binary_erosion(mask, np.ones((3, 3)), iterations=thickness, border_value=1)
    picture = image.astype(np.float32)
    picture[inside] = (1 - opacity) * picture[inside] + opacity * np.array(colour, np.float32)
    picture[mask & ~inside] = colour
    return Image.fromarray(np.round(picture).astype(np.uint8))


def error_overlay(
    image: np.ndarray, prediction: np.ndarray, target: np.ndarray, valid_mask: np.ndarray | None = None
) -> Image.Image:
    """Mark what a prediction hit (sky blue), missed (vermilion) and made up (yellow) on a dim grey image.

    Args:
        image: (H, W, 3) uint8 RGB.
        prediction: (H, W), bool or 0/1.
        target: (H, W), bool or 0/1.
        valid_mask: (H, W), bool or 0/1; what lies outside is not scored: dimmer still, and unmarked.

    Returns:
        PIL.Image.Image: RGB, of the image's size.

    Raises:
        ValueError: If an array has another shape or dtype.
    """
    prediction, target = _mask_of(image, prediction, "prediction"), _mask_of(image, target, "target")
    grey = np.asarray(Image.fromarray(image).convert("L"), np.float32)
    # Half as bright at most: every colour stands out from its surroundings by lightness as well.
    picture = np.repeat(grey[..., None] * 0.5, 3, axis=2)
    picture[prediction & target] = HIT
    picture[~prediction & target] = MISS
    picture[prediction & ~target] = FALSE
    if valid_mask is not None:
        outside = ~_mask_of(image, valid_mask, "valid_mask")
        picture[outside] = grey[outside, None] * 0.5 * _OUTSIDE
    return Image.fromarray(np.round(picture).astype(np.uint8))


def save_samples(
    path: str | os.PathLike, rows: Sequence[Mapping[str, object]], threshold: float = 0.5, max_rows: int = 6
) -> None:
    """Save a grid with one line an image: image, ground truth, predicted probability, errors.

    Args:
        path: The picture to write, its kind by its ending (PNG, PDF, SVG); its folder is made when it is missing.
        rows: Samples with `id`, `image` (H, W, 3) uint8, `mask` (H, W) 0/1, `probability` (H, W) float in [0, 1] and,
            optionally, `valid_mask` (H, W). Sizes may differ from row to row.
        threshold: A pixel is predicted when its probability is at least this.
        max_rows: Rows beyond this many are left out.

    Raises:
        ValueError: If there are no rows, or an array has another shape or dtype.
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
        """Takes a sample as for `save_samples`, unless its Dice is undefined."""
        score = _dice_of(sample, self.threshold)
        if not math.isnan(score):
            self.ranked.append((score, sample))
            self.ranked.sort(key=lambda pair: -pair[0])
            if len(self.ranked) > 2 * self.count:
                del self.ranked[self.count]


def save_best_and_worst(
    path: str | os.PathLike, rows: Iterable[Mapping[str, object]], threshold: float = 0.5, count: int = 3
) -> None:
    """Save the images with the highest and the lowest Dice, as `save_samples` draws them, best first.

    Args:
        path: The picture to write, its kind by its ending (PNG, PDF, SVG); its folder is made when it is missing.
        rows: Samples as for `save_samples`. They may come from a generator: no more than `2 * count` are kept. Those
            whose Dice is undefined are passed over.
        threshold: A pixel is predicted when its probability is at least this.
        count: Of either kind; all are drawn where there are fewer than twice as many.

    Raises:
        ValueError: If `count` is less than one, there is nothing to rank, or an array has another shape or dtype.
    """
    keeper = BestAndWorst(threshold, count)
    for row in rows:
        keeper.add(row)
    ranked = keeper.ranked
    captions = [
        f"{'best' if place < (len(ranked) + 1) // 2 else 'worst'}: {_shorten(str(row['id']))}   Dice {score:.3f}"
        for place, (score, row) in enumerate(ranked)
    ]
    _save_grid(path, [row for _, row in ranked], captions, threshold)


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
    figure = Figure(figsize=(4.6 * len(curves), 3.4), dpi=150, facecolor="white", layout="constrained")
    for axes, (title, drawn) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        _draw_curves(axes, title, drawn)
    save_figure(figure, path)


def _mask_of(image: np.ndarray, mask: np.ndarray, name: str) -> np.ndarray:
    """Check an image and a mask that goes with it."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image must be uint8 of shape (H, W, 3), got {image.dtype} of shape {image.shape}")
    mask = as_mask(mask, name)
    if mask.shape != image.shape[:2]:
        raise ValueError(f"{name} has shape {mask.shape}, image has shape {image.shape}")
    return mask


def _dice_of(row: Mapping[str, object], threshold: float) -> float:
    return dice(row["probability"] >= threshold, row["mask"], row.get("valid_mask"))


def _save_grid(
    path: str | os.PathLike, rows: Sequence[Mapping[str, object]], captions: Sequence[str], threshold: float
) -> None:
    """Image, ground truth, probability and errors of every sample, each line under its caption."""
    if not rows:
        raise ValueError(f"there is no sample to draw in {path}")
    titles = ("image", "ground truth", "predicted probability", "errors")
    panel, caption, margin = 3.2, 0.26, 0.08  # inches
    heights = [panel * len(row["image"]) / row["image"].shape[1] for row in rows]
    width, height = len(titles) * (panel + margin) + margin, sum(heights) + (caption + margin) * len(rows) + 0.6
    figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
    top = height - 0.3
    for index, (row, row_height) in enumerate(zip(rows, heights, strict=True)):
        top -= caption + row_height
        panels = _sample_panels(row, threshold)
        for column, (title, picture) in enumerate(zip(titles, panels, strict=True)):
            left = margin + column * (panel + margin)
            axes = figure.add_axes((left / width, top / height, panel / width, row_height / height))
            axes.imshow(picture, cmap="gray", vmin=0, vmax=1, aspect="auto")
            axes.set_axis_off()
            if index == 0:
                figure.text((left + panel / 2) / width, (height - 0.2) / height, title, ha="center", weight="bold")
        figure.text(margin / width, (top + row_height + 0.07) / height, captions[index], parse_math=False)
        top -= margin
    legend = [
        Patch(color=unit_rgb(colour), label=name) for colour, name in ((HIT, "hit"), (MISS, "missed"), (FALSE, "false"))
    ]
    figure.legend(handles=legend, loc="lower right", ncols=3, frameon=False, borderaxespad=0.2)
    save_figure(figure, path)


def _sample_panels(row: Mapping[str, object], threshold: float) -> tuple[np.ndarray, ...]:
    """Image, ground truth, probability and errors of one sample, the two maps grey where nothing is scored."""
    image, valid_mask = row["image"], row.get("valid_mask")
    maps = []
    for name in ("mask", "probability"):
        panel = np.repeat(np.asarray(row[name], np.float32)[..., None], 3, axis=2)
        if valid_mask is not None:
            panel[~as_mask(valid_mask, "valid_mask")] = 0.25
        maps.append(panel)
    errors = error_overlay(image, row["probability"] >= threshold, row["mask"], valid_mask)
    return image, *maps, np.asarray(errors)


def _curve(history: Sequence[Mapping[str, object]], name: str) -> tuple[list[float], list[float]]:
    """Steps and values of one column, without the rows that lack it."""
    steps, values = [], []
    for row in history:
        value = row.get(name)
        if value not in (None, "") and not math.isnan(float(value)):
            steps.append(float(row["step"]))
            values.append(float(value))
    return steps, values


def _draw_curves(axes: Axes, title: str, curves: Mapping[str, tuple[list[float], list[float]]]) -> None:
    for (name, (steps, values)), colour in zip(curves.items(), _line_colours(len(curves)), strict=True):
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


def _line_colours(number: int) -> list[tuple[float, ...]]:
    palette = [unit_rgb(colour) for colour in (BLUE, VERMILION, GREEN, PURPLE, SKY_BLUE)]
    return [palette[index % len(palette)] for index in range(number)]


def _shorten(text: str, length: int = 60) -> str:
    return text if len(text) <= length else f"...{text[3 - length :]}"


def unit_rgb(colour: tuple[int, int, int]) -> tuple[float, ...]:
    """A colour in 0 to 255 as matplotlib wants it, in 0 to 1."""
    return tuple(channel / 255 for channel in colour)


def save_figure(figure: Figure, path: str | os.PathLike) -> None:
    """Write a figure, its kind by the path's ending; the folder is made when it is missing."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
