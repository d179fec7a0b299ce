import numpy as np
import pytest

from topolora_hf.metrics.overlap import dice, precision, recall
from topolora_hf.metrics.thresholds import threshold_counts

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
