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
from .lines import LINE_METRICS
from .masks import as_mask, as_probability, as_valid_mask, ratio, ratios
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
ON_REQUEST = LINE_METRICS  # by name, and nothing computes them unless they are asked for
_KEYS = ("id", "class")  # the columns that are no scores
_DRAWN_AT_ONCE = 1 << 20  # images of bootstrap samples


def score_image(
    probability: ArrayLike,
    target: ArrayLike,
    valid_mask: ArrayLike | None = None,
    threshold: float = 0.5,
    names: Sequence[str] = tuple(METRICS),
    prediction: ArrayLike | None = None,
) -> dict[str, float]:
    """Score one image, or one class of it, at its own size.

    Args:
        probability: (H, W), numbers in [0, 1].
        target: (H, W), bool or 0/1.
        valid_mask: (H, W), bool or 0/1, true where the image is to be scored; `None` scores all of it.
        threshold: In [0, 1]; a pixel is predicted if its probability is at least this.
        names: Which of `METRICS` and of `ON_REQUEST`.
        prediction: (H, W), bool or 0/1, the predicted mask; `None`: where the probability is at least the threshold. Of
            exclusive classes the threshold alone does not give it, see `class_masks`.

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
    given = prediction is not None
    prediction = as_mask(prediction, "prediction", target.shape) if given else probability >= threshold
    if valid_mask is not None:
        from scipy.ndimage import find_objects

        # No metric looks past the field of view: leaving its surroundings out saves their share of the time.
        valid_mask = as_valid_mask(valid_mask, target.shape)
        window = next(iter(find_objects(valid_mask.astype(np.uint8))), np.s_[:0, :0])
        probability, target, valid_mask = probability[window], target[window], valid_mask[window]
        prediction = prediction[window]
    of_masks = MASK_METRICS | ON_REQUEST
    scores = {name: of_masks[name](prediction, target, valid_mask) for name in names if name in of_masks}
    if {"auroc", "average_precision"} & set(names):  # one sorting of the pixels gives both
        pair = auroc_and_average_precision(probability, target, valid_mask)
        scores |= dict(zip(("auroc", "average_precision"), pair, strict=True))
    if "ece" in names:
        scores["ece"] = ece(probability, target, valid_mask)
    if "ece_foreground" in names:
        of_mask = prediction if given else None
        scores["ece_foreground"] = ece_foreground(probability, target, valid_mask, threshold, prediction=of_mask)
    return {name: scores[name] for name in names}


def score_images(
    samples: Iterable[Mapping[str, object]],
    threshold: float = 0.5,
    workers: int | None = None,
    names: Sequence[str] = tuple(METRICS),
) -> list[dict[str, object]]:
    """Score many images at once, in threads: nearly all of the work is done in compiled code outside Python's lock.

    Samples are taken from the iterable as they are needed: a generator predicts while earlier images are scored.

    Args:
        samples: Each with `id`, `probability`, `mask` and, optionally, `valid_mask` and `prediction`, as for
            `score_image`; and `class` where there are several: then each image comes once a class.
        threshold: A pixel is predicted when its probability is at least this.
        workers: Number of threads; by default one a core, but no more than eight. At most twice as many samples are
            held in memory.
        names: As for `score_image`.

    Returns:
        `id` (and `class`) and the scores of each sample, in their order. Errors name the image.
    """
    workers = min(8, os.cpu_count() or 1) if workers is None else workers
    if workers < 1:
        raise ValueError(f"workers must be 1 or more, got {workers}")
    rows, waiting = [], deque()
    with ThreadPoolExecutor(workers) as pool:
        for sample in samples:
            waiting.append(pool.submit(_score_sample, sample, threshold, names))
            if len(waiting) == 2 * workers:
                rows.append(waiting.popleft().result())
        rows.extend(future.result() for future in waiting)
    return rows


def score_set(rows: Sequence[Mapping[str, object]]) -> dict[str, float]:
    """Average per-image scores over a set, every image counting alike, and every class.

    Args:
        rows: One mapping an image: metric names to floats, and an `id` where there is one. With a column `class`, one
            an image and class.

    Returns:
        The mean of every metric over the images where it is defined (NaN where it is on none), and `n`, the number of
        images. Of several classes it is the mean over the classes of those means, where they are defined.

    Raises:
        ValueError: There are no rows, the rows hold different metrics, an id occurs twice in a class (an image that was
            scored by two processes would count double), or the classes have different images.

    >>> score_set([{"id": "a", "dice": 0.5}, {"id": "b", "dice": 1.0}, {"id": "c", "dice": float("nan")}])
    {'dice': 0.75, 'n': 3}
    """
    table = _score_table(rows)
    means = {name: _mean([_mean(of_class) for of_class in scores.T]) for name, scores in table.items()}
    return {**means, "n": len(rows) // len({row.get("class") for row in rows})}


def bootstrap_intervals(
    rows: Sequence[Mapping[str, object]], samples: int = 2000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % intervals of the means that `score_set` gives, by the percentile bootstrap (Efron 1979).

    Images are drawn with replacement, as many as there are, each with all of its classes: the interval says how much
    the mean depends on which images happen to be in the set, and nothing of how much another training run would differ.

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
    return {name: _interval(scores, samples, seed) for name, scores in _score_table(rows).items()}


def summarise(rows: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """What metrics.json says of a set.

    Returns:
        The means of `score_set`; `intervals`, those of `bootstrap_intervals`; and of several classes `classes`, which
        holds the same for each. Where a score is undefined on some of the images (of an empty mask that is rightly
        predicted, for one), `n_defined` says on how many its mean rests.
    """
    intervals = {name: list(interval) for name, interval in bootstrap_intervals(rows).items()}
    summary = {**score_set(rows), "intervals": intervals}
    if "class" in rows[0]:
        return summary | {"classes": {name: summarise(own) for name, own in rows_by_class(rows).items()}}
    defined = {name: int(np.count_nonzero(~np.isnan(scores))) for name, scores in _score_table(rows).items()}
    fewer = {name: count for name, count in defined.items() if count < len(rows)}
    return summary | ({"n_defined": fewer} if fewer else {})


def rows_by_class(rows: Sequence[Mapping[str, object]]) -> dict[str | None, list[dict[str, object]]]:
    """The rows of each class, by its name and without it; all rows under None where there is one class."""
    classes = {}
    for row in rows:
        own = {name: value for name, value in row.items() if name != "class"}
        classes.setdefault(row.get("class"), []).append(own)
    return classes


def write_per_image_csv(path: str | os.PathLike, rows: Sequence[Mapping[str, object]]) -> None:
    """Write one line an image (and class), `id` first, so that a reader never sees half a table.

    A missing folder is made, an older file is replaced in one step. Rows and errors are those of `score_set`, but every
    row needs an `id`.
    """
    columns = _columns(rows)
    if "id" not in columns:
        raise ValueError(f"every row of {path} needs an id, got the columns {', '.join(columns)}")
    columns = [*(name for name in _KEYS if name in columns), *(name for name in columns if name not in _KEYS)]
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _score_sample(sample: Mapping[str, object], threshold: float, names: Sequence[str]) -> dict[str, object]:
    try:
        seen = sample["probability"], sample["mask"], sample.get("valid_mask")
        scores = score_image(*seen, threshold, names, sample.get("prediction"))
    except ValueError as error:
        raise ValueError(f"image {sample['id']}: {error}") from error
    return {**{name: sample[name] for name in _KEYS if name in sample}, **scores}


def _columns(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """The columns that all rows share, in the order of the first row."""
    if not rows:
        raise ValueError("there is no row of scores to report")
    columns = list(rows[0])
    for row in rows:
        if set(row) != set(columns):
            raise ValueError(f"row {row.get('id', row)} has the columns {sorted(row)}, the first has {sorted(columns)}")
    return columns


def _score_table(rows: Sequence[Mapping[str, object]]) -> dict[str, np.ndarray]:
    """The scores of every metric, (N, C): images by classes, NaN where they are undefined."""
    names = [name for name in _columns(rows) if name not in _KEYS]
    classes = rows_by_class(rows)
    for of_class in classes.values():
        repeated = sorted(str(key) for key, times in Counter(row.get("id") for row in of_class).items() if times > 1)
        if repeated and "id" in rows[0]:
            raise ValueError(f"{len(repeated)} images were scored more than once: {', '.join(repeated)}")
    first = [row.get("id") for row in next(iter(classes.values()))]
    if other := next((name for name, own in classes.items() if [row.get("id") for row in own] != first), None):
        raise ValueError(f"class {other!r} was scored on other images than class {next(iter(classes))!r}")
    return {name: np.array([[float(row[name]) for row in own] for own in classes.values()]).T for name in names}


def _mean(values: Sequence[float]) -> float:
    """Of those that are defined, summed without rounding."""
    defined = [value for value in values if not math.isnan(value)]
    return ratio(math.fsum(defined), len(defined))


def _interval(scores: np.ndarray, samples: int, seed: int) -> tuple[float, float]:
    """Of the mean over the classes of the means over the images, of (N, C) scores."""
    scores = scores[~np.isnan(scores).all(1)]
    count = len(scores)
    if count < 2:
        return float("nan"), float("nan")
    # The same draws for every metric, so that their intervals belong together; a few samples at a time, for the memory.
    generator = np.random.default_rng(seed)
    means, block = [], max(1, _DRAWN_AT_ONCE // count)
    for first in range(0, samples, block):
        drawn = generator.integers(count, size=(min(block, samples - first), count))
        of_classes = [_means_along(of_class[drawn]) for of_class in scores.T]
        means.append(_means_along(np.stack(of_classes, axis=1)))
    low, high = np.percentile(np.concatenate(means), (2.5, 97.5))
    return float(low), float(high)


def _means_along(values: np.ndarray) -> np.ndarray:
    """(M, N) -> (M,), the means over what is defined, NaN where nothing is."""
    defined = ~np.isnan(values)
    if defined.all():
        return values.mean(1)
    return ratios(np.where(defined, values, 0).sum(1), defined.sum(1))
