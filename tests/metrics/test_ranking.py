import itertools
import math

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_precision, compute_roc_auc
from scipy.stats import mannwhitneyu

from topolora_hf.metrics.ranking import auroc, average_precision

SHAPE = (9, 7)


def targets() -> dict[str, np.ndarray]:
    pixel = np.zeros(SHAPE, bool)
    pixel[4, 3] = True
    noise = np.random.default_rng(1).random(SHAPE) < 0.3
    return {"empty": np.zeros(SHAPE, bool), "full": np.ones(SHAPE, bool), "pixel": pixel, "noise": noise}


def probabilities() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    smooth = rng.random(SHAPE)
    return {
        "distinct": smooth,
        "float32": smooth.astype(np.float32),
        "many ties": np.round(smooth, 1),
        "one bit": (smooth > 0.5).astype(float),
        "constant": np.full(SHAPE, 0.5),
        "better": np.clip(smooth + 0.4 * targets()["noise"], 0, 1),
    }


GRID = list(itertools.product(probabilities(), targets()))


def average_precision_by_thresholds(probability: np.ndarray, target: np.ndarray) -> float:
    """The definition: rise in recall times precision, at every distinct probability from the highest down."""
    total, recall = 0.0, 0.0
    for threshold in np.unique(probability)[::-1]:
        predicted = probability >= threshold
        hits = (predicted & target).sum()
        total += (hits / target.sum() - recall) * hits / predicted.sum()
        recall = hits / target.sum()
    return total


@pytest.mark.parametrize(("probability", "target"), GRID)
def test_auroc_agrees_with_the_definition_scipy_and_monai(probability, target):
    probability, target = probabilities()[probability], targets()[target]
    ours = auroc(probability, target)
    if not target.any() or target.all():
        assert math.isnan(ours)
        return
    foreground, background = probability[target], probability[~target]
    pairs = np.sign(foreground[:, None] - background[None])
    assert ours == pytest.approx((pairs + 1).mean() / 2)
    assert ours == pytest.approx(mannwhitneyu(foreground, background).statistic / (foreground.size * background.size))
    theirs = compute_roc_auc(torch.tensor(probability).flatten(), torch.tensor(target).flatten().int())
    assert ours == pytest.approx(theirs)


@pytest.mark.parametrize(("probability", "target"), GRID)
def test_average_precision_agrees_with_the_definition_and_monai(probability, target):
    tied = probability in ("many ties", "one bit", "constant")
    probability, target = probabilities()[probability], targets()[target]
    ours = average_precision(probability, target)
    if not target.any():
        assert math.isnan(ours)
        return
    assert ours == pytest.approx(average_precision_by_thresholds(probability, target))
    if not tied and not target.all():  # MONAI takes tied pixels one after the other, in whatever order they come
        theirs = compute_average_precision(torch.tensor(probability).flatten(), torch.tensor(target).flatten().int())
        assert ours == pytest.approx(float(theirs), abs=1e-6)


def test_drawing_counted_by_hand():
    target = np.array([[1, 0, 1], [0, 0, 0]])
    probability = np.array([[0.9, 0.8, 0.4], [0.4, 0.1, 0.0]])
    # The first foreground pixel is above all 4 of the background, the second above 2 and level with 1.
    assert auroc(probability, target) == pytest.approx((4 + 2.5) / 8)
    # At 0.9 one pixel, one true; at 0.4 four pixels, two true.
    assert average_precision(probability, target) == pytest.approx((1 / 1 + 2 / 4) / 2)


def test_only_pixels_inside_the_field_of_view_count():
    rng = np.random.default_rng(0)
    probability, target, valid_mask = rng.random((20, 30)), rng.random((20, 30)) < 0.3, rng.random((20, 30)) < 0.5
    for metric in (auroc, average_precision):
        expected = metric(probability[valid_mask][None], target[valid_mask][None])
        assert metric(probability, target, valid_mask) == expected
        assert metric(np.where(valid_mask, probability, 1), target | ~valid_mask, valid_mask) == expected
        assert math.isnan(metric(probability, target, np.zeros_like(target)))


def test_only_the_order_of_the_probabilities_matters():
    rng = np.random.default_rng(3)
    probability, target = rng.random((30, 30)), rng.random((30, 30)) < 0.2
    for metric in (auroc, average_precision):
        assert metric(probability**3, target) == metric(probability, target)
    assert auroc(1 - np.round(probability, 1), target) == pytest.approx(1 - auroc(np.round(probability, 1), target))


def test_large_maps_stay_exact():
    # More pairs than 32-bit integers can count; half of the foreground above everything, half below.
    target = np.zeros((600, 600), bool)
    target[:300] = True
    probability = np.where(target, 0.0, 0.5)
    probability[:150] = 1.0
    assert auroc(probability.astype(np.float32), target) == 0.5


def test_bad_input_is_refused():
    target = targets()["noise"]
    for metric in (auroc, average_precision):
        with pytest.raises(ValueError, match=r"probability must lie in \[0, 1\], got 3.0 to 3.0"):
            metric(np.full(SHAPE, 3.0), target)
        with pytest.raises(ValueError, match="probability must lie in"):
            metric(np.full(SHAPE, np.nan), target)
        with pytest.raises(ValueError, match=r"probability has shape \(9, 6\), target has shape \(9, 7\)"):
            metric(np.zeros((9, 6)), target)
        with pytest.raises(ValueError, match=r"probability must have shape \(H, W\), got \(63,\)"):
            metric(np.zeros(63), target)
        with pytest.raises(ValueError, match=r"probability must hold numbers in \[0, 1\], got <U3"):
            metric(np.full(SHAPE, "0.5"), target)
        with pytest.raises(ValueError, match="target must be bool or hold only 0 and 1"):
            metric(np.zeros(SHAPE), target * 255)
        with pytest.raises(ValueError, match=r"valid_mask has shape \(9, 6\)"):
            metric(np.zeros(SHAPE), target, np.ones((9, 6)))
