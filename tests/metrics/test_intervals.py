import math
import tracemalloc

import numpy as np
import pytest
from scipy.stats import bootstrap

from topolora_hf.metrics.report import bootstrap_intervals, score_set


def rows(values, name: str = "dice") -> list[dict]:
    return [{"id": index, name: float(value)} for index, value in enumerate(values)]


def test_agrees_with_scipys_percentile_bootstrap():
    values = np.random.default_rng(0).beta(8, 2, 40)
    low, high = bootstrap_intervals(rows(values), samples=20_000)["dice"]
    theirs = bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=1e-3)
    assert low < score_set(rows(values))["dice"] < high


def test_sets_drawn_a_few_at_a_time_are_those_drawn_at_once():
    values = np.random.default_rng(0).random(2000)
    drawn = np.random.default_rng(5).integers(2000, size=(2000, 2000))
    at_once = np.percentile(values[drawn].mean(1), (2.5, 97.5))
    assert bootstrap_intervals(rows(values), seed=5)["dice"] == tuple(at_once)


def test_a_large_set_needs_no_memory_for_all_draws():
    table = rows(np.arange(20_000) % 97 / 97)
    tracemalloc.start()
    bootstrap_intervals(table, samples=300)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 * 2**20  # the draws alone are 48 MB


def test_interval_shrinks_with_the_root_of_the_number_of_images():
    rng = np.random.default_rng(0)
    widths = [np.ptp(bootstrap_intervals(rows(rng.normal(size=count)))["dice"]) for count in (100, 1600)]
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.25)


def test_images_where_a_score_is_undefined_are_left_out():
    table = [{**row, "cldice": math.nan if row["id"] % 2 else row["dice"]} for row in rows([0.1, 9, 0.3, 9, 0.7, 9])]
    assert bootstrap_intervals(table)["cldice"] == bootstrap_intervals(rows([0.1, 0.3, 0.7]))["dice"]


def test_fewer_than_two_images_give_no_interval():
    assert np.isnan(bootstrap_intervals(rows([0.5]))["dice"]).all()
    assert np.isnan(bootstrap_intervals(rows([0.5, math.nan]))["dice"]).all()
    assert bootstrap_intervals(rows([0.5, 0.5]))["dice"] == (0.5, 0.5)


def test_same_rows_and_seed_give_the_same_interval():
    table = rows(np.random.default_rng(0).random(10))
    assert bootstrap_intervals(table) == bootstrap_intervals(table) != bootstrap_intervals(table, seed=1)


def test_bad_tables_are_refused_as_by_the_mean():
    with pytest.raises(ValueError, match="no row"):
        bootstrap_intervals([])
    with pytest.raises(ValueError, match="more than once: a"):
        bootstrap_intervals([{"id": "a", "dice": 1.0}, {"id": "a", "dice": 0.0}])
    with pytest.raises(ValueError, match="samples must be 1 or more, got 0"):
        bootstrap_intervals(rows([0.1, 0.2]), samples=0)
