"""Lengths, widths and counts of shapes whose geometry is known."""

import math

import numpy as np
import pytest
from drawing import at, bar, drawn, line, ring, spiral, spiral_length

from topolora_hf.graphs import centreline_graph, graph_totals

WIDTHS = (1, 2, 3, 5, 8, 15)
CENTRE = (110.5, 111)


def measured(mask, nodes, segments, loops=0):
    """Totals of the mask, and of it turned or mirrored, once the counts are right."""
    turned = (np.rot90(mask), mask[::-1], mask.T, mask[:, ::-1])[int(mask.sum()) % 4]
    totals = [graph_totals(centreline_graph(np.ascontiguousarray(own))) for own in (mask, turned)]
    for own in totals:
        assert (own["branch_points"] + own["end_points"], own["segments"], own["loops"]) == (nodes, segments, loops)
    return totals


@pytest.mark.parametrize("width", WIDTHS)
def test_straight_lines_at_twenty_angles(width):
    errors = []
    for number, angle in enumerate(np.linspace(0, 171, 20)):
        centre = CENTRE[0] + number % 3 / 2, CENTRE[1] + number % 2 / 2
        for own in measured(drawn(line(angle, width, centre=centre), size=(224, 224)), 2, 1):
            assert own["length"] == pytest.approx(200, rel=0.02), angle
            errors.append(own["mean_width"] - width)
            if angle % 45:  # the edges of a diagonal line lie on whole diagonals of pixels
                assert abs(errors[-1]) < 0.5, angle
    assert abs(np.mean(errors)) < 0.2
    assert np.mean(np.abs(errors)) < 0.2


@pytest.mark.parametrize("width", WIDTHS)
def test_circles_have_one_loop_and_no_end(width):
    for radius in (12, 40, 90):
        mask = drawn(ring(CENTRE, radius, min(width, radius / 2)), size=(224, 224))
        for own in measured(mask, 0, 1, loops=1):
            assert own["length"] == pytest.approx(2 * math.pi * radius, rel=0.02)
            assert own["mean_width"] == pytest.approx(min(width, radius / 2), abs=0.3)
            assert math.isnan(own["tortuosity"])


@pytest.mark.parametrize("width", WIDTHS)
def test_spirals(width):
    mask = drawn(spiral(CENTRE, 12, 24, 3, width), size=(224, 224))
    for own in measured(mask, 2, 1):
        assert own["length"] == pytest.approx(spiral_length(12, 24, 3), rel=0.02)
        assert own["mean_width"] == pytest.approx(width, abs=0.3)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("angle", [0, 10, 77])
def test_crossings_have_one_branch_point(width, angle):
    for between in (60, 75, 90):
        mask = drawn(*(line(angle + turn, width, centre=CENTRE) for turn in (0, between)), size=(224, 224))
        for own in measured(mask, 5, 4):
            assert own["length"] == pytest.approx(400, rel=0.02)
            assert own["mean_width"] == pytest.approx(width, abs=0.5)
            assert own["branch_points"] == 1


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("angle", [0, 10, 77])
def test_junctions_of_three(width, angle):
    y_shape = [bar(CENTRE, at(CENTRE, angle + turn, 100), width) for turn in (0, 120, 240)]
    t_shape = [line(angle, width, centre=CENTRE), bar(CENTRE, at(CENTRE, angle + 90, 100), width)]
    for shape in (y_shape, t_shape):
        for own in measured(drawn(*shape, size=(224, 224)), 4, 3):
            assert own["length"] == pytest.approx(300, rel=0.02)
            assert own["mean_width"] == pytest.approx(width, abs=0.5)
    left, right = (at(CENTRE, angle, side) for side in (-35, 35))
    h_shape = [bar(left, right, width), *(line(angle + 90, width, length=160, centre=side) for side in (left, right))]
    for own in measured(drawn(*h_shape, size=(224, 224)), 6, 5):
        assert own["length"] == pytest.approx(390, rel=0.02)
        assert own["mean_width"] == pytest.approx(width, abs=0.5)
