import math

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from topolora_hf.metrics.overlap import precision, recall
from topolora_hf.metrics.tolerance import relaxed_f1, relaxed_precision, relaxed_recall

EMPTY, FULL = np.zeros((5, 9), bool), np.ones((5, 9), bool)


def crack(row: int) -> np.ndarray:
    mask = np.zeros((20, 30), bool)
    mask[row] = True
    return mask


def test_a_crack_two_pixels_off_is_found_and_three_pixels_off_is_not():
    assert relaxed_f1(crack(10), crack(8)) == 1
    assert relaxed_f1(crack(10), crack(7)) == 0
    assert relaxed_f1(crack(10), crack(7), tolerance_px=3) == 1


def test_precision_and_recall_are_not_confused():
    both = crack(4) | crack(15)
    assert relaxed_precision(both, crack(4)) == 0.5 and relaxed_recall(both, crack(4)) == 1
    assert relaxed_f1(both, crack(4)) == pytest.approx(2 / 3)


@pytest.mark.parametrize("tolerance_px", [0, 1, 1.5, 2, 5])
def test_agrees_with_distance_transforms(tolerance_px):
    rng = np.random.default_rng(0)
    prediction, target = (rng.random((40, 50)) < share for share in (0.02, 0.05))
    hit = (distance_transform_edt(~target) <= tolerance_px)[prediction].mean()
    found = (distance_transform_edt(~prediction) <= tolerance_px)[target].mean()
    settings = {"tolerance_px": tolerance_px}
    assert relaxed_precision(prediction, target, **settings) == pytest.approx(hit)
    assert relaxed_recall(prediction, target, **settings) == pytest.approx(found)
    assert relaxed_f1(prediction, target, **settings) == pytest.approx(2 * hit * found / (hit + found or 1))


def test_without_tolerance_they_are_the_plain_scores():
    rng = np.random.default_rng(1)
    masks = [rng.random((40, 50)) < 0.3 for _ in range(2)]
    assert relaxed_precision(*masks, tolerance_px=0) == pytest.approx(precision(*masks))
    assert relaxed_recall(*masks, tolerance_px=0) == pytest.approx(recall(*masks))


def test_what_is_undefined_is_nan_and_what_is_missed_is_zero():
    assert math.isnan(relaxed_precision(EMPTY, FULL)) and math.isnan(relaxed_recall(FULL, EMPTY))
    assert relaxed_precision(FULL, EMPTY) == relaxed_recall(EMPTY, FULL) == 0
    assert relaxed_f1(EMPTY, FULL) == relaxed_f1(FULL, EMPTY) == 0 and math.isnan(relaxed_f1(EMPTY, EMPTY))


def test_the_field_of_view_hides_both_sides():
    valid = np.zeros((20, 30), bool)
    valid[:9] = True
    assert math.isnan(relaxed_f1(crack(10), crack(12), valid))
    assert relaxed_recall(crack(10), crack(8), valid) == 0  # what predicted it lies outside


def test_a_wrong_tolerance_is_refused():
    for tolerance_px in (-1, math.nan):
        with pytest.raises(ValueError, match="tolerance_px"):
            relaxed_f1(FULL, FULL, tolerance_px=tolerance_px)
