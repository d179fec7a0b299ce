import math

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from topolora_hf.metrics import cldice, dice


def line(row: int, columns: slice, shape: tuple[int, int] = (5, 5)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[row, columns] = True
    return mask


LINE = line(2, slice(None))


def test_half_a_line_counted_by_hand():
    # All 3 predicted skeleton pixels are true, 3 of 5 true ones are found: 2 * 1 * 0.6 / 1.6.
    assert cldice(line(2, slice(0, 3)), LINE) == pytest.approx(0.75)
    assert cldice(LINE, line(2, slice(0, 3))) == pytest.approx(0.75)


def test_crossing_lines_share_one_pixel_of_five():
    assert cldice(LINE.T, LINE) == pytest.approx(0.2)


def test_lines_that_do_not_touch_score_zero():
    assert cldice(line(0, slice(None)), LINE) == 0


def test_width_does_not_matter_as_long_as_the_centreline_is_inside():
    thin = line(10, slice(4, 60), (21, 64))
    wide = binary_dilation(thin, np.ones((5, 1)))
    # Less than 1 only because a thick line's skeleton may lean to one side where the line ends.
    assert cldice(wide, thin) == cldice(thin, wide) > 0.97
    assert dice(wide, thin) < 0.4


def test_a_gap_costs_clDice_more_than_the_same_pixels_off_the_edge():
    target = line(10, slice(None), (21, 64))
    target = binary_dilation(target, np.ones((3, 1)))
    gap, thinner = target.copy(), target.copy()
    gap[:, 20:28] = False  # 24 pixels
    thinner[9, 20:44] = False  # 24 pixels
    assert dice(gap, target) == dice(thinner, target)
    assert cldice(gap, target) < 0.95 < cldice(thinner, target)


def test_better_predictions_score_higher():
    scores = [cldice(line(2, slice(0, length)), LINE) for length in (1, 2, 3, 4, 5)]
    assert scores == sorted(scores) and len(set(scores)) == 5 and scores[-1] == 1


def test_one_empty_mask_is_zero_and_two_are_undefined():
    empty = np.zeros((5, 5), bool)
    assert cldice(empty, LINE) == 0
    assert cldice(LINE, empty) == 0
    assert math.isnan(cldice(empty, empty))
    assert math.isnan(cldice(LINE, LINE, empty))


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (1, 7), (6, 6), (7, 40)])
def test_full_and_single_pixel_masks_match_themselves(shape):
    full, pixel = np.ones(shape, bool), np.zeros(shape, bool)
    pixel[shape[0] // 2, shape[1] // 2] = True
    assert cldice(full, full) == cldice(pixel, pixel) == 1
    assert cldice(np.zeros(shape, bool), pixel) == 0


def test_masks_are_cut_to_the_field_of_view_before_they_are_skeletonised():
    # The edge of the field of view runs along a vessel three pixels wide and leaves its first row. Skeletonised
    # first, the target's centreline would lie outside and the score would be lost.
    target = np.zeros((6, 32), bool)
    target[1:4] = True
    field_of_view = np.zeros((6, 32), bool)
    field_of_view[:2] = True
    prediction = line(1, slice(None), (6, 32))
    assert cldice(prediction, target, field_of_view) == 1
    assert cldice(prediction, target) < 1


def test_what_lies_outside_the_field_of_view_changes_nothing():
    rng = np.random.default_rng(0)
    target, noise, field_of_view = rng.random((3, 48, 48)) > 0.6
    field_of_view[8:40, 8:40] = True
    changed = np.where(field_of_view, target, noise)
    assert cldice(changed, target, field_of_view) == 1
    assert cldice(changed, target) < 1


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="prediction has shape"):
        cldice(LINE[:4], LINE)
