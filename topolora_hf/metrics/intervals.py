"""How far the mean scores of a set may be trusted: bootstrap intervals over its images."""

from collections.abc import Mapping, Sequence

import numpy as np

from .report import metric_columns, score_set


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
        dict[str, tuple[float, float]]: For every metric the 2.5th and the 97.5th percentile of the means, over the
        images where it is defined; NaN with fewer than two of those.

    Raises:
        ValueError: As for `score_set`, or if there is less than one sample.

    Example:
        >>> low, high = bootstrap_intervals([{"dice": value / 10} for value in range(1, 10)])["dice"]
        >>> round(low, 2), round(high, 2)
        (0.32, 0.66)
    """
    if samples < 1:
        raise ValueError(f"samples must be 1 or more, got {samples}")
    return {name: _interval(np.array(values), samples, seed) for name, values in metric_columns(rows).items()}


def summarise(rows: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """What metrics.json says of a set: the means of `score_set`, and under `intervals` those of `bootstrap_intervals`.

    Raises:
        ValueError: As for `score_set`.
    """
    intervals = {name: list(interval) for name, interval in bootstrap_intervals(rows).items()}
    return {**score_set(rows), "intervals": intervals}


def _interval(values: np.ndarray, samples: int, seed: int) -> tuple[float, float]:
    if len(values) < 2:
        return float("nan"), float("nan")
    # The same draws for every metric, so that their intervals belong together.
    drawn = np.random.default_rng(seed).integers(len(values), size=(samples, len(values)))
    low, high = np.percentile(values[drawn].mean(1), (2.5, 97.5))
    return float(low), float(high)
