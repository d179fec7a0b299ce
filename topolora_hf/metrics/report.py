"""From one probability map to a row of scores, from rows to a table and to means over a set."""

import csv
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from .overlap import dice, iou, precision, recall
from .topology import cldice

METRICS = {"dice": dice, "iou": iou, "precision": precision, "recall": recall, "cldice": cldice}


def score_image(
    probability: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None, threshold: float = 0.5
) -> dict[str, float]:
    """Score one image at its own size.

    Args:
        probability: (H, W) float in [0, 1].
        target: (H, W), bool or 0/1.
        valid_mask: (H, W), bool or 0/1, true where the image is to be scored; `None` scores all of it.
        threshold: In [0, 1]; a pixel is predicted when its probability is at least this.

    Returns:
        dict[str, float]: `dice`, `iou`, `precision`, `recall`, `cldice`, each NaN where it is undefined.

    Raises:
        ValueError: If probabilities or threshold leave [0, 1] (NaN included), if target or valid_mask is no mask, or
            if the shapes differ.

    Example:
        >>> score_image([[0.9, 0.6], [0.1, 0.0]], [[1, 0], [0, 0]])["precision"]
        0.5
    """
    probability = np.asarray(probability)
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must lie in [0, 1], got {threshold}")
    # Logits handed over by mistake would still give plausible scores; NaN fails the comparison too.
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError(f"probability must lie in [0, 1], got {probability.min()} to {probability.max()}")
    prediction = probability >= threshold
    return {name: metric(prediction, target, valid_mask) for name, metric in METRICS.items()}


def score_set(rows: Sequence[Mapping[str, object]]) -> dict[str, float]:
    """Average per-image scores over a set, every image counting alike.

    Args:
        rows: One mapping an image: metric names to floats, and an `id` where there is one.

    Returns:
        dict[str, float]: The mean of every metric over the images where it is defined (NaN where it is on none), and
        `n`, the number of images.

    Raises:
        ValueError: If there are no rows, the rows hold different metrics, or an id occurs twice (an image that was
            scored by two processes would count double).

    Example:
        >>> score_set([{"id": "a", "dice": 0.5}, {"id": "b", "dice": 1.0}, {"id": "c", "dice": float("nan")}])
        {'dice': 0.75, 'n': 3}
    """
    names = [name for name in _columns(rows) if name != "id"]
    ids = [row["id"] for row in rows if "id" in row]
    repeated = sorted({str(image_id) for image_id in ids if ids.count(image_id) > 1})
    if repeated:
        raise ValueError(f"{len(repeated)} images were scored more than once: {', '.join(repeated)}")
    means = {name: _mean_where_defined([float(row[name]) for row in rows]) for name in names}
    return {**means, "n": len(rows)}


def write_per_image_csv(path: str | os.PathLike, rows: Sequence[Mapping[str, object]]) -> None:
    """Write one line an image, `id` first, so that a reader never sees half a table.

    Args:
        path: The file to write; its folder is made when it is missing, an older file is replaced in one step.
        rows: As for `score_set`, each with an `id`. NaN is written as `nan`.

    Raises:
        ValueError: If there are no rows, a row has no `id`, or the rows have different columns.
    """
    columns = _columns(rows)
    if "id" not in columns:
        raise ValueError(f"every row of {path} needs an id, got the columns {', '.join(columns)}")
    columns = ["id", *(name for name in columns if name != "id")]
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(unfinished, path)


def _columns(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """The columns that all rows share, in the order of the first row."""
    if not rows:
        raise ValueError("there is no row of scores to report")
    columns = list(rows[0])
    for row in rows:
        if set(row) != set(columns):
            raise ValueError(f"row {row.get('id', row)} has the columns {sorted(row)}, the first has {sorted(columns)}")
    return columns


def _mean_where_defined(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else float("nan")
