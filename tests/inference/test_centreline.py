import json

import numpy as np
import pytest
from skimage.draw import disk, line

from topolora_hf.inference.centreline import Centreline


def drawn(*strokes, size=(100, 120), width=1):
    """Lines from (y, x) to (y, x), as thick as a disc of that diameter."""
    mask = np.zeros(size, bool)
    for start, end in strokes:
        for y, x in zip(*line(*start, *end), strict=True):
            mask[disk((y, x), width / 2, shape=size)] = True
    return mask


@pytest.mark.parametrize(
    ("strokes", "length", "branch_points", "end_points"),
    [
        ([((50, 10), (50, 110))], 100, 0, 2),
        ([((10, 10), (90, 90))], 80 * 2**0.5, 0, 2),
        ([((50, 10), (50, 110)), ((10, 60), (90, 60))], 180, 1, 4),
        ([((50, 10), (50, 110)), ((10, 60), (50, 60))], 140, 1, 3),
        ([((10, 10), (10, 60)), ((10, 60), (60, 60)), ((60, 60), (60, 10)), ((60, 10), (10, 10))], 200, 0, 0),
        ([((50, 10), (50, 110)), ((10, 40), (90, 40)), ((10, 80), (90, 80))], 260, 2, 6),
    ],
    ids=["line", "diagonal", "cross", "fork", "square", "two crossings"],
)
@pytest.mark.parametrize("width", [1, 5])
def test_lines_are_measured_as_they_were_drawn(strokes, length, branch_points, end_points, width):
    found = Centreline.of_mask(drawn(*strokes, width=width))
    # Thinning takes half a width off each end, and may cut corners.
    assert found.length == pytest.approx(length, abs=3 + width * max(end_points, 2) / 2)
    assert (found.branch_points, found.end_points) == (branch_points, end_points)


@pytest.mark.parametrize("side", [20, 21])
def test_a_crossing_without_a_middle_pixel_is_one(side):
    diagonal = np.eye(side, dtype=bool)
    found = Centreline.of_mask(diagonal | diagonal[::-1])
    assert (found.branch_points, found.end_points) == (1, 4)


@pytest.mark.parametrize("width", [3, 5, 9, 15])
def test_widths_are_those_drawn(width):
    bar = np.zeros((60, 300), bool)
    bar[20 : 20 + width, 20:280] = True
    assert Centreline.of_mask(bar).mean_width == pytest.approx(width, rel=0.05)


def test_an_empty_mask_has_no_line_and_no_width(tmp_path):
    empty = Centreline.of_mask(np.zeros((8, 9), bool))
    assert (empty.length, empty.branch_points, empty.end_points) == (0, 0, 0) and np.isnan(empty.mean_width)
    empty.save(tmp_path / "none.json")
    assert json.loads((tmp_path / "none.json").read_text())["mean_width"] is None


def test_other_arrays_are_refused():
    with pytest.raises(ValueError, match="uint8"):
        Centreline.of_mask(np.zeros((4, 4), np.uint8))
