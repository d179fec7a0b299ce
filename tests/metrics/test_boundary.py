import itertools
import math

import numpy as np
import pytest
from monai.metrics.utils import get_edge_surface_distance
from scipy.ndimage import binary_erosion, distance_transform_edt

from topolora_hf.metrics.tolerance import bfscore


def draw(*rows: str) -> np.ndarray:
    return np.array([[pixel == "#" for pixel in row] for row in rows])


SQUARE = draw(
    ".....",
    ".###.",
    ".###.",
    ".###.",
    ".....",
)


def masks(shape: tuple[int, int]) -> list[np.ndarray]:
    """Empty, full, single pixels and noise, some of it in lumps."""
    rng = np.random.default_rng(0)
    pixel = np.zeros(shape, bool)
    pixel[0, 0] = True
    lumps = np.kron(rng.random((shape[0] // 4 + 1, shape[1] // 4 + 1)) < 0.4, np.ones((4, 4), bool))
    noise = [rng.random(shape) < share for share in (0.05, 0.5)]
    return [np.zeros(shape, bool), np.ones(shape, bool), pixel, lumps[: shape[0], : shape[1]], *noise]


def reference(prediction: np.ndarray, target: np.ndarray, tolerance_px: float) -> float:
    """By distance transforms, on a frame of background."""
    edges = [mask & ~binary_erosion(mask, border_value=0) for mask in (prediction, target)]
    if not edges[0].any() or not edges[1].any():
        return 0.0 if edges[0].any() or edges[1].any() else math.nan
    shares = [(distance_transform_edt(~other)[edge] <= tolerance_px).mean() for edge, other in (edges, reversed(edges))]
    return 2 * math.prod(shares) / sum(shares) if sum(shares) else 0.0


def test_drawing_counted_by_hand():
    # A square's boundary is a ring of 8 pixels. Moved by one column, 2 pixels of the upper and 2 of the lower side
    # still coincide; moved by two, one column of 3.
    assert bfscore(SQUARE, SQUARE, tolerance_px=0) == 1
    assert bfscore(np.roll(SQUARE, 1, axis=1), SQUARE, tolerance_px=0) == pytest.approx(4 / 8)
    assert bfscore(np.roll(SQUARE, 1, axis=1), SQUARE) == 1
    wider = np.pad(SQUARE, ((0, 0), (0, 2)))
    assert bfscore(np.roll(wider, 2, axis=1), wider, tolerance_px=0) == pytest.approx(3 / 8)
    assert bfscore(np.roll(wider, 2, axis=1), wider, tolerance_px=2) == 1


def test_tolerance_is_a_euclidean_distance_that_still_counts():
    here, there = draw("#....", ".....", "....."), draw(".....", ".....", ".#...")
    assert bfscore(here, there, tolerance_px=2) == 0
    assert bfscore(here, there, tolerance_px=math.sqrt(5)) == 1
    assert bfscore(here, there, tolerance_px=math.inf) == 1


def test_precision_and_recall_are_both_needed():
    # Found a third of three pixels, and everything that was found is true.
    assert bfscore(draw("#........"), draw("#...#...#")) == pytest.approx(2 * 1 * (1 / 3) / (1 + 1 / 3))


@pytest.mark.parametrize("shape", [(1, 1), (5, 5), (1, 9), (24, 17)])
@pytest.mark.parametrize("tolerance_px", [0, 1, 1.5, 3, 100])
def test_agrees_with_distance_transforms(shape, tolerance_px):
    for prediction, target in itertools.product(masks(shape), repeat=2):
        expected = reference(prediction, target, tolerance_px)
        assert bfscore(prediction, target, tolerance_px=tolerance_px) == pytest.approx(expected, nan_ok=True)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # MONAI calls its own deprecated option
def test_agrees_with_monais_boundaries_and_distances():
    for prediction, target in itertools.product(masks((24, 17))[1:], repeat=2):
        _, distances, _ = get_edge_surface_distance(prediction, target, symmetric=True, use_subvoxels=False)
        shares = [float((np.asarray(each) <= 1).mean()) for each in distances]
        expected = 2 * math.prod(shares) / sum(shares) if sum(shares) else 0
        assert bfscore(prediction, target) == pytest.approx(expected)


def test_one_empty_mask_is_zero_and_two_are_undefined():
    empty = np.zeros((5, 5), bool)
    assert bfscore(empty, SQUARE) == bfscore(SQUARE, empty) == 0
    assert math.isnan(bfscore(empty, empty))
    assert math.isnan(bfscore(SQUARE, SQUARE, empty))


def test_outside_the_field_of_view_nothing_counts_and_everything_is_background():
    left = np.arange(5)[None].repeat(5, 0) < 2
    assert bfscore(SQUARE & left, SQUARE, left, tolerance_px=0) == 1
    assert bfscore(SQUARE & left, SQUARE, tolerance_px=0) < 1
    ones = np.ones((5, 5), bool)
    assert bfscore(ones & left, ones, left, tolerance_px=0) == 1
    assert bfscore(np.zeros((5, 5), bool), ones, left) == 0


def test_closer_outlines_score_higher():
    target = np.zeros((40, 40), bool)
    target[10:30, 10:30] = True
    larger = [np.pad(np.ones((20 + 2 * margin,) * 2, bool), 10 - margin) for margin in (0, 1, 2)]
    assert [bfscore(mask, target) for mask in larger] == [1, pytest.approx(1, abs=0.05), 0]
    assert bfscore(larger[2], target, tolerance_px=2) > 0.9


@pytest.mark.parametrize("tolerance_px", [-1, math.nan])
def test_a_tolerance_that_is_none_is_refused(tolerance_px):
    with pytest.raises(ValueError, match="tolerance_px must be 0 or more, got"):
        bfscore(SQUARE, SQUARE, tolerance_px=tolerance_px)


def test_what_is_no_mask_is_refused():
    with pytest.raises(ValueError, match="prediction must be bool or hold only 0 and 1"):
        bfscore(SQUARE * 0.4, SQUARE)
    with pytest.raises(ValueError, match="prediction has shape"):
        bfscore(SQUARE[:4], SQUARE)
