import math

import numpy as np
import pytest

from topolora_hf.metrics.overlap import dice, precision, recall
from topolora_hf.metrics.report import score_image
from topolora_hf.metrics.thresholds import best_threshold, threshold_counts

RNG = np.random.default_rng(0)
TARGET = RNG.random((30, 20)) < 0.3
PROBABILITY = np.clip(0.6 * RNG.random((30, 20)) + 0.3 * TARGET, 0, 1)
VALID = RNG.random((30, 20)) < 0.8


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("target", [TARGET, np.zeros_like(TARGET), np.ones_like(TARGET)])
def test_every_point_of_the_curve_is_the_score_of_the_thresholded_map(dtype, target):
    # Rounded, so that many probabilities equal a threshold to the last bit of their own precision.
    probability = np.round(PROBABILITY, 2).astype(dtype)
    counts = threshold_counts(probability, target, VALID)
    for index, threshold in enumerate(counts.thresholds.tolist()):
        prediction = probability >= threshold
        for name, metric in (("dice", dice), ("precision", precision), ("recall", recall)):
            expected = metric(prediction, target, VALID)
            assert getattr(counts, name)[index] == pytest.approx(expected, nan_ok=True), (name, threshold)


def test_curves_of_a_set_are_pooled_by_adding_them_up():
    halves = [threshold_counts(PROBABILITY[part], TARGET[part]) for part in (slice(0, 11), slice(11, None))]
    pooled, whole = halves[0] + halves[1], threshold_counts(PROBABILITY, TARGET)
    assert np.array_equal(pooled.recall, whole.recall)
    assert np.array_equal(pooled.precision, whole.precision, equal_nan=True)
    with pytest.raises(ValueError, match="different thresholds"):
        whole + threshold_counts(PROBABILITY, TARGET, thresholds=[0.5])


def test_best_threshold_is_the_one_that_scores_best_over_images():
    # The second image wants a lower threshold than the first; every image counts alike, whatever its size.
    images = [(PROBABILITY, TARGET), (PROBABILITY[:9] * 0.6, TARGET[:9])]
    candidates = np.arange(1, 20) / 20
    chosen = best_threshold([threshold_counts(*image, thresholds=candidates) for image in images])
    means = [np.mean([score_image(*image, threshold=float(each))["dice"] for image in images]) for each in candidates]
    assert chosen == candidates[int(np.argmax(means))]
    assert isinstance(chosen, float) and means[0] < max(means) > means[-1]


def test_of_equally_good_thresholds_the_one_nearest_the_middle_is_taken():
    counts = threshold_counts(np.where(TARGET, 0.9, 0.1), TARGET)
    assert best_threshold([counts]) == 0.5
    assert best_threshold([threshold_counts(np.where(TARGET, 0.9, 0.7), TARGET)]) == 0.705


def test_images_with_nothing_in_them_speak_only_where_something_is_predicted():
    # An empty image scores 0 below 0.7 and is undefined from there on; the other one is best at 0.3 and good at 0.75.
    target = np.zeros((10, 10), bool)
    target[:5] = True
    probability = np.where(target, 0.8, 0.0)
    probability[4] = 0.4
    empty = threshold_counts(np.full((10, 10), 0.65), np.zeros((10, 10), bool))
    filled = threshold_counts(probability, target)
    assert best_threshold([filled]) == 0.4
    assert best_threshold([filled, empty]) == 0.655
    assert math.isnan(empty.dice[-1]) and empty.dice[0] == 0


def test_what_cannot_be_chosen_by_is_refused():
    with pytest.raises(ValueError, match="no image to choose a threshold by"):
        best_threshold([])
    with pytest.raises(ValueError, match="Dice is undefined on all of 1 images"):
        best_threshold([threshold_counts(PROBABILITY, TARGET, np.zeros_like(TARGET))])


@pytest.mark.parametrize("thresholds", [[], [0.5, 0.5], [0.6, 0.4], [-0.1, 0.5], [0.5, 50], [np.nan], [[0.1]], 0.5])
def test_thresholds_that_are_none_are_refused(thresholds):
    with pytest.raises(ValueError, match=r"thresholds must be numbers that ascend in \[0, 1\]"):
        threshold_counts(PROBABILITY, TARGET, thresholds=thresholds)
