"""Scores of lines against MONAI, against lengths and counts by hand, and against worse predictions."""

import math

import numpy as np
import pytest
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from scipy.ndimage import binary_dilation

from topolora_hf.graphs import centreline_graph
from topolora_hf.metrics import LINE_SCORES, METRICS, SegmentationMetric, score_image
from topolora_hf.metrics.lines import LINE_METRICS, apls, cliou, hd95, nsd, topo_f1, topo_precision, topo_recall


def cross(width=1, size=161):
    mask = np.zeros((size, size), bool)
    mask[size // 2], mask[:, size // 2] = True, True
    return binary_dilation(mask, iterations=width - 1) if width > 1 else mask


def line(columns, size=(60, 400), row=30):
    mask = np.zeros(size, bool)
    mask[row - 1 : row + 2, columns] = True
    return mask


def test_perfect_and_hopeless_predictions():
    empty, far = np.zeros((161, 161), bool), np.zeros((161, 161), bool)
    far[3:5, 100:140] = True
    for name, metric in LINE_METRICS.items():
        assert metric(cross(), cross()) == (0 if name == "hd95" else 1), name
        assert math.isnan(metric(empty, empty)), name
        assert metric(empty, cross()) == metric(cross(), empty) == pytest.approx(161 * 2**0.5 if name == "hd95" else 0)
        if name != "hd95":
            assert metric(far, cross()) < 0.2, name
    assert not set(LINE_SCORES) & set(METRICS)


@pytest.mark.parametrize("seed", range(4))
def test_surface_scores_are_those_of_monai(seed):
    generator = np.random.default_rng(seed)
    one, other = (binary_dilation(generator.random((40, 50)) < 0.02, iterations=2) for _ in range(2))
    pair = [torch.from_numpy(np.stack([~mask, mask])[None]).float() for mask in (one, other)]
    assert hd95(one, other) == pytest.approx(float(compute_hausdorff_distance(*pair, percentile=95)))
    for tolerance in (1.0, 2.0):
        assert nsd(one, other, tolerance_px=tolerance) == pytest.approx(float(compute_surface_dice(*pair, [tolerance])))


def test_a_gap_costs_the_paths_across_it():
    whole, gap = line(slice(0, 400)), line(slice(0, 400))
    gap[:, 190:210] = False
    assert apls(whole, whole, np.ones_like(whole)) == 1
    # Control points every 50 pixels: 9 of them, of which 4 lie left of the gap, 4 right of it, and one inside it.
    same_side = 2 * math.comb(4, 2) / math.comb(9, 2)
    there = same_side
    assert apls(gap, whole) == pytest.approx(2 * there / (1 + there), abs=0.02)


def test_a_detour_costs_its_share_of_each_way():
    """A bar from end to end, and one that goes round by a slant: every pair of points on both sides pays for it."""
    straight, detour = line(slice(0, 400)), line(slice(0, 400))
    detour[25:36, 197:204] = False
    for step in range(4):  # up by three pixels and down again, within the four of snapping
        detour[29 - step : 32 - step, 197 + step], detour[29 - step : 32 - step, 203 - step] = True, True
    ways = [centreline_graph(mask).size(weight="length") for mask in (straight, detour)]
    assert ways[1] > ways[0] + 0.5
    assert 1 - 2 * (ways[1] - ways[0]) / 50 < apls(detour, straight) < 1


def test_topo_counts_places_that_can_be_reached():
    target, half = line(slice(0, 400)), line(slice(0, 200))
    assert topo_precision(half, target) == pytest.approx(1, abs=0.06)
    assert topo_recall(half, target) == pytest.approx(0.5, abs=0.1)
    doubled = target | line(slice(0, 400), row=50)
    assert topo_recall(doubled, target) == 1 and topo_precision(doubled, target) == 1  # not joined, so not reached
    joined = doubled.copy()
    joined[30:51, 190:193] = True
    assert topo_precision(joined, target) < 0.95
    precision, recall = topo_precision(half, target), topo_recall(half, target)
    assert topo_f1(half, target) == pytest.approx(2 * precision * recall / (precision + recall))


def test_centrelines_match_within_the_tolerance():
    target = line(slice(0, 400))
    assert cliou(line(slice(0, 400), row=33), target) == 1
    assert cliou(line(slice(0, 400), row=36), target) < 0.05
    assert cliou(line(slice(0, 200)), target) == pytest.approx(0.5, abs=0.02)
    assert cliou(line(slice(0, 400), row=33), target, tolerance_px=2) < 0.05


def test_what_lies_outside_the_field_of_view_does_not_count():
    target, prediction, valid = line(slice(0, 400)), line(slice(0, 400)), np.zeros((60, 400), bool)
    prediction[:, 300:], valid[:, :250] = True, True
    for name, metric in LINE_METRICS.items():
        assert metric(prediction, target, valid) == (0 if name == "hd95" else 1), name


@pytest.mark.parametrize("name", LINE_SCORES)
def test_a_worse_prediction_scores_worse(name):
    target = line(slice(0, 400)) | line(slice(0, 400), row=45)
    target[30:46, 100] = target[30:46, 300] = True
    good, bad = target.copy(), target.copy()
    good[:, 150:156] = False
    bad[:, 60:75], bad[:, 130:220], bad[10, 20:300] = False, False, True
    bad[10:31, 250] = True
    sign = -1 if name == "hd95" else 1
    assert sign * LINE_METRICS[name](good, target) > sign * LINE_METRICS[name](bad, target)


def test_they_are_scored_by_name():
    probability = cross(2) * 0.9
    assert score_image(probability, cross(2), names=("dice", "apls", "nsd")) == {"dice": 1, "apls": 1, "nsd": 1}
    metric = SegmentationMetric(["apls"], keep_in_memory=True)
    assert metric.compute(predictions=[probability], references=[cross(2)]) == {"apls": 1}
