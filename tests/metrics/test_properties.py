"""What must hold for any image: ranges, symmetry, and that it does not matter which way up an image is."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.ndimage import gaussian_filter

from topolora_hf.metrics.report import MASK_METRICS, METRICS, PROBABILITY_METRICS
from topolora_hf.metrics.topology import cldice

COUNTS = {"betti0_error", "betti1_error"}
SYMMETRIC = {"dice", "iou", "cldice", "bfscore", "relaxed_f1", *COUNTS}
# Thinning takes the pixels of a direction in turn and is not the same for every direction: see the test of clDice.
INVARIANT = set(METRICS) - {"cldice"}
TURNS = [lambda a: a[::-1], lambda a: a[:, ::-1], np.rot90, lambda a: np.rot90(a, 2), np.transpose]

shapes = array_shapes(min_dims=2, max_dims=2, max_side=12)


@st.composite
def images(draw):
    """(probability, target, valid_mask) of one image; ties, single pixels, empty and full masks come up often."""
    shape = draw(shapes)
    level = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]) | st.floats(0, 1, width=32)
    probability = draw(arrays(np.float32, shape, elements=level, fill=st.sampled_from([0.0, 0.5, 1.0])))
    target = draw(arrays(bool, shape))
    valid_mask = draw(arrays(bool, shape, fill=st.just(True)))
    return probability, target, valid_mask


def values(probability, target, valid_mask) -> dict[str, float]:
    masks = {name: metric(probability >= 0.5, target, valid_mask) for name, metric in MASK_METRICS.items()}
    return masks | {name: metric(probability, target, valid_mask) for name, metric in PROBABILITY_METRICS.items()}


@given(images())
def test_scores_lie_in_their_range_or_are_undefined(image):
    for name, value in values(*image).items():
        assert isinstance(value, float)
        assert math.isnan(value) or 0 <= value <= (math.inf if name in COUNTS else 1 + 1e-12), name


@given(images())
def test_flips_and_quarter_turns_change_nothing(image):
    expected = values(*image)
    for turn in TURNS:
        turned = values(*(turn(array) for array in image))
        for name in INVARIANT:
            assert turned[name] == pytest.approx(expected[name], nan_ok=True, abs=1e-9), name


@given(images())
def test_prediction_and_target_may_change_places(image):
    prediction, target, valid_mask = image[0] >= 0.5, image[1], image[2]
    for name in SYMMETRIC:
        here, there = (METRICS[name](*pair, valid_mask) for pair in ((prediction, target), (target, prediction)))
        assert here == there or math.isnan(here) and math.isnan(there), name


@given(images())
def test_a_mask_matches_itself(image):
    _, target, valid_mask = image
    scores = values(target.astype(np.float32), target, valid_mask)
    perfect = {name: 0 if name in COUNTS or name.startswith("ece") else 1 for name in METRICS}
    for name, value in scores.items():
        assert value == perfect[name] or math.isnan(value), name
    if (target & valid_mask).any():
        assert scores["cldice"] == 1
        assert [name for name, value in scores.items() if math.isnan(value)] in ([], ["auroc"])


@given(images(), st.sampled_from([1, 2, 3]))
def test_a_margin_of_unscored_pixels_changes_nothing(image, margin):
    expected = values(*image)
    framed = values(*(np.pad(array, margin) for array in image))
    assert framed == pytest.approx(expected, nan_ok=True, abs=1e-12)


@pytest.mark.parametrize("seed", range(2))
def test_cldice_of_vessels_hardly_depends_on_which_way_up_they_are(seed):
    # Smooth structures like vessels: skeletons of a turned image differ at their ends and by half a pixel in places.
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=(96, 96)), 4)
    target = np.abs(field) < 0.25 * field.std()
    prediction = np.abs(field + 0.3 * gaussian_filter(rng.normal(size=(96, 96)), 4)) < 0.25 * field.std()
    turned = [cldice(turn(prediction), turn(target)) for turn in TURNS]
    assert turned == pytest.approx([cldice(prediction, target)] * len(TURNS), abs=0.05)


def test_cldice_of_straight_lines_does_not_depend_on_it_at_all():
    target, prediction = np.zeros((2, 20, 20), bool)
    target[5], target[:, 12], prediction[5, 3:], prediction[:15, 12] = True, True, True, True
    for turn in TURNS:
        assert cldice(turn(prediction), turn(target)) == pytest.approx(cldice(prediction, target), abs=1e-12)
