"""From probability maps to rows of scores; from rows to a table, and to means over a set with their intervals."""

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
from .calibration import ece, ece_foreground
from .masks import as_mask, as_probability, as_valid_mask, ratio
from .overlap import dice, iou, precision, recall
from .ranking import auroc, auroc_and_average_precision, average_precision
from .tolerance import bfscore, relaxed_f1, relaxed_precision, relaxed_recall
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
_DRAWN_AT_ONCE = 1 << 20  # images of bootstrap samples


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
        A score for each name, NaN where it is undefined. `MASK_METRICS` see the thresholded map,
        `PROBABILITY_METRICS` the probabilities.

    Raises:
        ValueError: Probabilities or threshold leave [0, 1] (NaN included), target or valid_mask is no mask, or the
            shapes differ.

    >>> score_image([[0.9, 0.6], [0.1, 0.0]], [[1, 0], [0, 0]])["precision"]
    0.5
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must lie in [0, 1], got {threshold}")
    target = as_mask(target, "target")
    probability = as_probability(probability, shape=target.shape)
    if valid_mask is not None:
        from scipy.ndimage import find_objects

        # No metric looks past the field of view: leaving its surroundings out saves their share of the time.
        valid_mask = as_valid_mask(valid_mask, target.shape)
        window = next(iter(find_objects(valid_mask.astype(np.uint8))), np.s_[:0, :0])
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
        `id` and the scores of each image, in the order of the samples. Errors name the image.
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
        The mean of every metric over the images where it is defined (NaN where it is on none), and `n`, the number of
        images.

    Raises:
        ValueError: There are no rows, the rows hold different metrics, or an id occurs twice (an image that was scored
            by two processes would count double).

    >>> score_set([{"id": "a", "dice": 0.5}, {"id": "b", "dice": 1.0}, {"id": "c", "dice": float("nan")}])
    {'dice': 0.75, 'n': 3}
    """
    means = {name: ratio(math.fsum(values), len(values)) for name, values in _defined_scores(rows).items()}
    return {**means, "n": len(rows)}


def bootstrap_intervals(
    rows: Sequence[Mapping[str, object]], samples: int = 2000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % intervals of the means that `score_set` gives, by the percentile bootstrap (Efron 1979).

    Images are drawn with replacement, as many as there are: the interval says how much the mean depends on which
    images happen to be in the set, and nothing of how much another training run would differ.

    Args:
        rows: As for `score_set`.
        samples: Number of sets drawn.
        seed: Of the draws; the same rows and seed give the same intervals.

    Returns:
        For every metric the 2.5th and the 97.5th percentile of the means, over the images where it is defined; NaN
        with fewer than two of those. Errors are those of `score_set`.

    >>> low, high = bootstrap_intervals([{"dice": value / 10} for value in range(1, 10)])["dice"]
    >>> round(low, 2), round(high, 2)
    (0.32, 0.66)
    """
    if samples < 1:
        raise ValueError(f"samples must be 1 or more, got {samples}")
    return {name: _interval(np.array(values), samples, seed) for name, values in _defined_scores(rows).items()}


def summarise(rows: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """What metrics.json says of a set: the means of `score_set`, and `intervals`, those of `bootstrap_intervals`."""
    intervals = {name: list(interval) for name, interval in bootstrap_intervals(rows).items()}
    return {**score_set(rows), "intervals": intervals}


def write_per_image_csv(path: str | os.PathLike, rows: Sequence[Mapping[str, object]]) -> None:
    """Write one line an image, `id` first, so that a reader never sees half a table.

    A missing folder is made, an older file is replaced in one step. Rows and errors are those of `score_set`, but every
    row needs an `id`.
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


def _columns(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """The columns that all rows share, in the order of the first row."""
    if not rows:
        raise ValueError("there is no row of scores to report")
    columns = list(rows[0])
    for row in rows:
        if set(row) != set(columns):
            raise ValueError(f"row {row.get('id', row)} has the columns {sorted(row)}, the first has {sorted(columns)}")
    return columns


def _defined_scores(rows: Sequence[Mapping[str, object]]) -> dict[str, list[float]]:
    """The scores of every metric over the images where it is defined."""
    names = [name for name in _columns(rows) if name != "id"]
    ids = Counter(row["id"] for row in rows if "id" in row)
    repeated = sorted(str(image_id) for image_id, times in ids.items() if times > 1)
    if repeated:
        raise ValueError(f"{len(repeated)} images were scored more than once: {', '.join(repeated)}")
    scores = {name: [float(row[name]) for row in rows] for name in names}
    return {name: [value for value in values if not math.isnan(value)] for name, values in scores.items()}


def _interval(values: np.ndarray, samples: int, seed: int) -> tuple[float, float]:
    count = len(values)
    if count < 2:
        return float("nan"), float("nan")
    # The same draws for every metric, so that their intervals belong together; a few samples at a time, for the memory.
    generator = np.random.default_rng(seed)
    means, block = [], max(1, _DRAWN_AT_ONCE // count)
    for first in range(0, samples, block):
        drawn = generator.integers(count, size=(min(block, samples - first), count))
        means.append(values[drawn].mean(1))
    low, high = np.percentile(np.concatenate(means), (2.5, 97.5))
    return float(low), float(high)
