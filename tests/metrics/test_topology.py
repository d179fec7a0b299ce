import itertools
import math

import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from skimage.measure import euler_number, label

from topolora_hf.metrics.overlap import dice
from topolora_hf.metrics.topology import betti0_error, betti1_error, cldice


def draw(*rows: str) -> np.ndarray:
    return np.array([[pixel == "#" for pixel in row] for row in rows])


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


EMPTY = np.zeros((5, 5), bool)
# Drawings and their numbers of pieces and holes, counted by hand.
DRAWINGS = {
    "empty": (EMPTY, 0, 0),
    "full": (~EMPTY, 1, 0),
    "pixel": (draw(".....", ".....", "..#..", ".....", "....."), 1, 0),
    "corners": (draw("#...#", ".....", ".....", ".....", "#...#"), 4, 0),
    "diagonal is one piece": (draw("#....", ".#...", "..#..", "...#.", "....#"), 1, 0),
    "ring": (draw(".....", ".###.", ".#.#.", ".###.", "....."), 1, 1),
    "diamond closes at its corners": (draw(".....", "..#..", ".#.#.", "..#..", "....."), 1, 1),
    "ring with a gap": (draw(".....", ".#.#.", ".#.#.", ".###.", "....."), 1, 0),
    "ring with a pixel inside": (draw("#####", "#...#", "#.#.#", "#...#", "#####"), 2, 1),
    "holes that touch at a corner are two": (draw("#####", "#.###", "##.##", "#####", "#####"), 1, 2),
    "bay at the edge is no hole": (draw(".....", "###..", "..#..", "###..", "....."), 1, 0),
    "ladder": (draw("#####", "#...#", "#####", "#...#", "#####"), 1, 2),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_pieces_and_holes_counted_by_hand(name):
    mask, pieces, holes = DRAWINGS[name]
    for other, other_pieces, other_holes in DRAWINGS.values():
        assert betti0_error(mask, other) == betti0_error(other, mask) == abs(pieces - other_pieces)
        assert betti1_error(mask, other) == betti1_error(other, mask) == abs(holes - other_holes)


@pytest.mark.parametrize("shape", [(1, 1), (1, 8), (5, 5), (40, 31)])
def test_pieces_and_holes_agree_with_scikit_image(shape):
    rng = np.random.default_rng(0)
    masks = [rng.random(shape) < share for share in (0, 0.2, 0.4, 0.6, 0.8, 1)]
    pieces = [label(mask, connectivity=2, return_num=True)[1] for mask in masks]
    holes = [count - euler_number(mask, connectivity=2) for count, mask in zip(pieces, masks, strict=True)]
    for a, b in itertools.product(range(len(masks)), repeat=2):
        assert betti0_error(masks[a], masks[b]) == abs(pieces[a] - pieces[b])
        assert betti1_error(masks[a], masks[b]) == abs(holes[a] - holes[b])


def test_a_gap_that_hardly_shows_in_dice_changes_the_topology():
    target = np.zeros((64, 64), bool)
    target[10:13, 5:60], target[50:53, 5:60], target[10:53, 5:8], target[10:53, 57:60] = True, True, True, True
    gap = target.copy()
    gap[10:13, 30] = False
    assert dice(gap, target) > 0.99
    assert (betti0_error(gap, target), betti1_error(gap, target)) == (0, 1)
    gap[50:53, 30] = False
    assert (betti0_error(gap, target), betti1_error(gap, target)) == (1, 1)


def test_the_field_of_view_cuts_pieces_and_opens_holes():
    ring = DRAWINGS["ring"][0]
    upper = np.arange(5)[:, None].repeat(5, 1) < 3
    assert betti1_error(ring, EMPTY, upper) == 0 and betti0_error(ring, EMPTY, upper) == 1
    middle = np.arange(5)[:, None].repeat(5, 1) == 2
    assert betti0_error(ring, EMPTY, middle) == 2
    assert betti0_error(~upper, EMPTY, upper) == 0


def test_counts_without_a_pixel_to_score_are_undefined():
    for error in (betti0_error, betti1_error):
        assert error(EMPTY, EMPTY) == 0
        assert math.isnan(error(LINE, LINE, EMPTY))
        assert math.isnan(error(np.zeros((0, 5), bool), np.zeros((0, 5), bool)))
        with pytest.raises(ValueError, match="prediction has shape"):
            error(LINE[:4], LINE)
