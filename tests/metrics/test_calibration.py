import itertools
import math

import numpy as np
import pytest
import torch
from monai.metrics import CalibrationErrorMetric

from topolora_hf.metrics.calibration import ece, ece_foreground, reliability

SHAPE = (20, 15)


def targets() -> list[np.ndarray]:
    pixel = np.zeros(SHAPE, bool)
    pixel[3, 4] = True
    return [np.zeros(SHAPE, bool), np.ones(SHAPE, bool), pixel, np.random.default_rng(1).random(SHAPE) < 0.3]


def probabilities() -> list[np.ndarray]:
    smooth = np.random.default_rng(2).random(SHAPE).astype(np.float32)
    return [smooth, smooth**4, np.zeros(SHAPE), np.ones(SHAPE), (smooth > 0.5).astype(np.float32)]


def by_definition(values: np.ndarray, labels: np.ndarray, bins: int) -> float:
    error = 0.0
    for low in range(bins):
        inside = (values >= low / bins) & ((values < (low + 1) / bins) | (low == bins - 1))
        if inside.any():
            error += inside.mean() * abs(values[inside].mean(dtype=float) - labels[inside].mean())
    return error


@pytest.mark.parametrize("bins", [1, 2, 15])
def test_error_agrees_with_the_definition(bins):
    for probability, target in itertools.product(probabilities(), targets()):
        assert ece(probability, target, bins=bins) == pytest.approx(by_definition(probability, target, bins), abs=1e-9)


def test_error_agrees_with_monai():
    for probability, target in itertools.product(probabilities()[:4], targets()):
        metric = CalibrationErrorMetric(num_bins=15, right=True)
        metric(*(torch.tensor(array, dtype=torch.float32)[None, None] for array in (probability, target)))
        assert ece(probability, target) == pytest.approx(float(metric.aggregate()), abs=1e-5)


def test_error_of_the_foreground_is_that_of_its_pixels_alone():
    for probability, target in itertools.product(probabilities(), targets()):
        foreground = target | (probability >= 0.5)
        expected = by_definition(probability[foreground], target[foreground], 15) if foreground.any() else math.nan
        assert ece_foreground(probability, target) == pytest.approx(expected, nan_ok=True)


def test_threshold_decides_what_foreground_is():
    target = np.zeros(SHAPE, bool)
    target[0, 0] = True
    probability = np.where(target, 0.9, 0.3)
    assert ece_foreground(probability, target) == pytest.approx(0.1)
    everywhere = (0.1 + 0.3 * (target.size - 1)) / target.size
    assert ece_foreground(probability, target, threshold=0.3) == pytest.approx(everywhere)
    assert ece(probability, target) == pytest.approx(everywhere)


def test_probabilities_that_mean_what_they_say_are_calibrated():
    rng = np.random.default_rng(0)
    honest = rng.random((400, 400))
    target = rng.random((400, 400)) < honest
    assert ece(honest, target) < 0.01
    assert ece(honest**2, target) > 0.1
    assert ece(target.astype(float), target) == ece_foreground(target.astype(float), target) == 0
    assert ece(1 - target.astype(float), target) == 1


def test_only_pixels_inside_the_field_of_view_count():
    rng = np.random.default_rng(0)
    probability, target, valid_mask = rng.random(SHAPE), rng.random(SHAPE) < 0.3, rng.random(SHAPE) < 0.5
    for metric in (ece, ece_foreground):
        expected = metric(probability[valid_mask][None], target[valid_mask][None])
        assert metric(np.where(valid_mask, probability, 1), target & valid_mask, valid_mask) == expected
        assert math.isnan(metric(probability, target, np.zeros(SHAPE, bool)))


def test_reliability_of_a_set_is_pooled_by_adding_it_up():
    probability, target = probabilities()[0], targets()[3]
    whole = reliability(probability, target)
    pooled = reliability(probability[:7], target[:7]) + reliability(probability[7:], target[7:])
    assert np.array_equal(pooled.pixels, whole.pixels) and np.array_equal(pooled.foreground, whole.foreground)
    assert pooled.error == pytest.approx(whole.error) == ece(probability, target)
    assert whole.pixels.sum() == probability.size and whole.foreground.sum() == target.sum()
    with pytest.raises(ValueError, match="15 bins and 10 bins"):
        whole + reliability(probability, target, bins=10)


def test_bins_without_pixels_are_undefined():
    data = reliability([[0.0, 0.1, 1.0]], [[0, 1, 1]], bins=3)
    assert data.pixels.tolist() == [2, 0, 1]
    assert data.mean_probability == pytest.approx([0.05, math.nan, 1], nan_ok=True)
    assert data.foreground_fraction == pytest.approx([0.5, math.nan, 1], nan_ok=True)


def test_bad_input_is_refused():
    target = targets()[3]
    with pytest.raises(ValueError, match="bins must be 1 or more, got 0"):
        ece(np.zeros(SHAPE), target, bins=0)
    with pytest.raises(ValueError, match=r"threshold must lie in \[0, 1\], got 50"):
        ece_foreground(np.zeros(SHAPE), target, threshold=50)
    for metric in (ece, ece_foreground, reliability):
        with pytest.raises(ValueError, match="probability must lie in"):
            metric(np.full(SHAPE, np.nan), target)
        with pytest.raises(ValueError, match="probability has shape"):
            metric(np.zeros((5, 5)), target)
