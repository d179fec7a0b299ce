"""From probability maps to rows of scores, from rows to a table and to means over a set."""

import csv
import math
import os
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ..files import whole_file
from .boundary import bfscore
from .calibration import ece, ece_foreground
from .masks import as_probability_and_target, as_valid_mask
from .overlap import dice, iou, precision, recall
from .ranking import auroc, auroc_and_average_precision, average_precision
from .ratios import ratio
from .relaxed import relaxed_f1, relaxed_precision, relaxed_recall
from .topology import betti0_error, betti1_error, cldice

MASK_METRICS = {
    metric.__name__: metric
    for metric in (
        *(dice, iou, precision, recall, cldice, bfscore),
        *(relaxed_precision, relaxed_recall, relaxed_f1),
        *(betti0_error, betti1_error),
    )
}
PROBABILITY_METRICS = {metric.__name__: metric for metric in (auroc, average_precision, ece, ece_foreground)}
METRICS = MASK_METRICS | PROBABILITY_METRICS


def score_image(
    probability: ArrayLike,
    target: ArrayLike,
    valid_mask: ArrayLike | None = None,
    threshold: float = 0.5,
    names: Sequence[str] = tuple(METRICS),
) -> dict[str, float]:
    """Score one image at its own size.

    Args:
        probability: (H, W), numbers in [0, 1].
        target: (H, W), bool or 0/1.
        valid_mask: (H, W), bool or 0/1, true where the image is to be scored; `None` scores all of it.
        threshold: In [0, 1]; a pixel is predicted if its probability is at least this.
        names: Which of `METRICS`.

    Returns:
        dict[str, float]: A score for each name, NaN where it is undefined. `MASK_METRICS` see the thresholded map,
        `PROBABILITY_METRICS` the probabilities.

    Raises:
        ValueError: Probabilities or threshold leave [0, 1] (NaN included), target or valid_mask is no mask, or the
            shapes differ.

    Example:
        >>> score_image([[0.9, 0.6], [0.1, 0.0]], [[1, 0], [0, 0]])["precision"]
        0.5
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must lie in [0, 1], got {threshold}")
    probability, target = as_probability_and_target(probability, target)
    if valid_mask is not None:
        # No metric looks past the field of view: leaving its surroundings out saves their share of the time.
        valid_mask = as_valid_mask(valid_mask, target.shape)
        window = _bounding_box(valid_mask)
        probability, target, valid_mask = probability[window], target[window], valid_mask[window]
    prediction = probability >= threshold
    scores = {name: MASK_METRICS[name](prediction, target, valid_mask) for name in names if name in MASK_METRICS}
    if {"auroc", "average_precision"} & set(names):  # one sorting of the pixels gives both
        pair = auroc_and_average_precision(probability, target, valid_mask)
        scores |= dict(zip(("auroc", "average_precision"), pair, strict=True))
    if "ece" in names:
        scores["ece"] = ece(probability, target, valid_mask)
    if "ece_foreground" in names:
        scores["ece_foreground"] = ece_foreground(probability, target, valid_mask, threshold)
    return {name: scores[name] for name in names}


def score_images(
    samples: Iterable[Mapping[str, object]], threshold: float = 0.5, workers: int | None = None
) -> list[dict[str, object]]:
    """Score many images at once, in threads: nearly all of the work is done in compiled code outside Python's lock.

    Samples are taken from the iterable as they are needed: a generator predicts while earlier images are scored.

    Args:
        samples: Each with `id`, `probability`, `mask` and, optionally, `valid_mask`, as for `score_image`.
        threshold: A pixel is predicted when its probability is at least this.
        workers: Number of threads; by default one a core, but no more than eight. At most twice as many samples are
            held in memory.

    Returns:
        list[dict[str, object]]: `id` and the scores of each image, in the order of the samples.

    Raises:
        ValueError: If there is less than one worker, or as for `score_image`, naming the image.
    """
    workers = min(8, os.cpu_count() or 1) if workers is None else workers
    if workers < 1:
        raise ValueError(f"workers must be 1 or more, got {workers}")
    rows, waiting = [], deque()
    with ThreadPoolExecutor(workers) as pool:
        for sample in samples:
            waiting.append(pool.submit(_score_sample, sample, threshold))
            if len(waiting) == 2 * workers:
                rows.append(waiting.popleft().result())
        rows.extend(future.result() for future in waiting)
    return rows


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
    means = {name: ratio(math.fsum(values), len(values)) for name, values in metric_columns(rows).items()}
    return {**means, "n": len(rows)}


def metric_columns(rows: Sequence[Mapping[str, object]]) -> dict[str, list[float]]:
    """The scores of every metric over the images where it is defined, out of rows as for `score_set`.

    Raises:
        ValueError: As for `score_set`.
    """
    names = [name for name in _columns(rows) if name != "id"]
    ids = Counter(row["id"] for row in rows if "id" in row)
    repeated = sorted(str(image_id) for image_id, times in ids.items() if times > 1)
    if repeated:
        raise ValueError(f"{len(repeated)} images were scored more than once: {', '.join(repeated)}")
    scores = {name: [float(row[name]) for row in rows] for name in names}
    return {name: [value for value in values if not math.isnan(value)] for name, values in scores.items()}


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
    with whole_file(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _score_sample(sample: Mapping[str, object], threshold: float) -> dict[str, object]:
    try:
        scores = score_image(sample["probability"], sample["mask"], sample.get("valid_mask"), threshold)
    except ValueError as error:
        raise ValueError(f"image {sample['id']}: {error}") from error
    return {"id": sample["id"], **scores}


def _bounding_box(mask: np.ndarray) -> tuple[slice, slice]:
    """The smallest window that holds all true pixels; an empty one where there are none."""
    sides = []
    for axis in (1, 0):
        places = mask.any(axis).nonzero()[0]
        sides.append(slice(places[0], places[-1] + 1) if places.size else slice(0, 0))
    return tuple(sides)


def _columns(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """The columns that all rows share, in the order of the first row."""
    if not rows:
        raise ValueError("there is no row of scores to report")
    columns = list(rows[0])
    for row in rows:
        if set(row) != set(columns):
            raise ValueError(f"row {row.get('id', row)} has the columns {sorted(row)}, the first has {sorted(columns)}")
    return columns
