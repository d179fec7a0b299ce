import itertools
import math

import numpy as np
import pytest
import torch
from monai.metrics import ConfusionMatrixMetric, DiceMetric, MeanIoU

from topolora_hf.metrics.overlap import (
    dice,
    iou,
    precision,
    recall,
)

METRICS = (dice, iou, precision, recall)


def draw(*rows: str) -> np.ndarray:
    return np.array([[pixel == "#" for pixel in row] for row in rows])


TARGET = draw(
    ".....",
    ".###.",
    ".###.",
    ".....",
    ".....",
)
PREDICTION = draw(
    ".....",
    "..###",
    "..##.",
    "..#..",
    ".....",
)


def test_drawing_counted_by_hand():
    # 6 predicted, 6 true, 4 in both, 8 in either.
    assert dice(PREDICTION, TARGET) == pytest.approx(8 / 12)
    assert iou(PREDICTION, TARGET) == pytest.approx(4 / 8)
    assert precision(PREDICTION, TARGET[:, ::-1]) == pytest.approx(4 / 6)
    assert precision(PREDICTION[:4, :4], TARGET[:4, :4]) == pytest.approx(4 / 5)
    assert recall(PREDICTION[:4, :4], TARGET[:4, :4]) == pytest.approx(4 / 6)


def test_only_pixels_inside_the_field_of_view_count():
    field_of_view = draw("#####", "#####", "##...", "##...", "##...")
    # Left of the prediction: 3, of the target: 4, of both: 2.
    assert dice(PREDICTION, TARGET, field_of_view) == pytest.approx(4 / 7)
    assert iou(PREDICTION, TARGET, field_of_view) == pytest.approx(2 / 5)
    assert precision(PREDICTION, TARGET, field_of_view) == pytest.approx(2 / 3)
    assert recall(PREDICTION, TARGET, field_of_view) == pytest.approx(2 / 4)


def test_values_outside_the_field_of_view_change_nothing():
    rng = np.random.default_rng(0)
    prediction, target, field_of_view = rng.random((3, 40, 30)) > 0.5
    for metric in METRICS:
        inside = metric(prediction[field_of_view][None], target[field_of_view][None])
        assert metric(prediction, target, field_of_view) == pytest.approx(inside)
        assert metric(prediction ^ ~field_of_view, target | ~field_of_view, field_of_view) == pytest.approx(inside)


def test_undefined_is_nan_and_a_miss_is_zero():
    empty, full = np.zeros((5, 5), bool), np.ones((5, 5), bool)
    assert all(math.isnan(metric(empty, empty)) for metric in METRICS)
    assert dice(empty, full) == iou(empty, full) == recall(empty, full) == 0
    assert math.isnan(precision(empty, full))
    assert dice(full, empty) == iou(full, empty) == precision(full, empty) == 0
    assert math.isnan(recall(full, empty))
    assert all(math.isnan(metric(full, full, empty)) for metric in METRICS)


def _masks(shape: tuple[int, int]) -> dict[str, np.ndarray]:
    masks = {"empty": np.zeros(shape, bool), "full": np.ones(shape, bool), "pixel": np.zeros(shape, bool)}
    masks["pixel"][shape[0] // 2, shape[1] // 2] = True
    for fraction in (0.1, 0.5, 0.9):
        masks[f"noise{fraction}"] = np.random.default_rng(int(10 * fraction)).random(shape) < fraction
    return masks


@pytest.mark.parametrize("shape", [(1, 1), (5, 5), (17, 31)])
def test_agrees_with_monai(shape):
    def value(metric, prediction, target) -> float:
        metric(*(torch.tensor(mask)[None, None].float() for mask in (prediction, target)))
        result = metric.aggregate("none") if isinstance(metric, DiceMetric | MeanIoU) else metric.aggregate()[0]
        return float(result.flatten()[0])

    for prediction, target in itertools.product(_masks(shape).values(), repeat=2):
        if prediction.any() and target.any():  # MONAI's choices for empty masks are not ours
            theirs = value(DiceMetric(reduction="none"), prediction, target)
            assert dice(prediction, target) == pytest.approx(theirs, abs=1e-6)
            theirs = value(MeanIoU(reduction="none"), prediction, target)
            assert iou(prediction, target) == pytest.approx(theirs, abs=1e-6)
            for name, ours in (("precision", precision), ("sensitivity", recall)):
                theirs = value(ConfusionMatrixMetric(metric_name=name, reduction="mean"), prediction, target)
                assert ours(prediction, target) == pytest.approx(theirs, abs=1e-6)


def test_dice_iou_precision_and_recall_obey_their_identities():
    masks = _masks((23, 19))
    for prediction, target in itertools.product((masks["full"], masks["noise0.1"], masks["noise0.5"]), repeat=2):
        overlap, union = dice(prediction, target), iou(prediction, target)
        assert overlap == pytest.approx(2 * union / (1 + union))
        found, true = precision(prediction, target), recall(prediction, target)
        assert overlap == pytest.approx(2 * found * true / (found + true))
        assert overlap == dice(target, prediction)
        assert found == recall(target, prediction)


def test_better_predictions_score_higher():
    target = TARGET
    almost, half = target.copy(), target.copy()
    almost[1, 1] = False
    half[1] = False
    for metric in (dice, iou, recall):
        assert metric(target, target) == 1 > metric(almost, target) > metric(half, target) > 0


def test_class_index_masks_and_tensors_are_read():
    expected = dice(PREDICTION, TARGET)
    assert dice(PREDICTION.astype(np.uint8), TARGET.astype(np.int64)) == expected
    assert dice(torch.tensor(PREDICTION), torch.tensor(TARGET).float()) == expected


@pytest.mark.parametrize("metric", METRICS)
def test_what_is_no_mask_is_refused(metric):
    with pytest.raises(ValueError, match="prediction must be bool or hold only 0 and 1.*threshold"):
        metric(np.full((5, 5), 0.3), TARGET)
    with pytest.raises(ValueError, match="target must be bool or hold only 0 and 1, got uint8 between 0 and 255"):
        metric(PREDICTION, TARGET.astype(np.uint8) * 255)
    with pytest.raises(ValueError, match=r"prediction must have shape \(H, W\), got \(1, 5, 5\)"):
        metric(PREDICTION[None], TARGET)
    with pytest.raises(ValueError, match=r"prediction has shape \(4, 5\), target has shape \(5, 5\)"):
        metric(PREDICTION[:4], TARGET)
    with pytest.raises(ValueError, match=r"valid_mask has shape \(5, 1\)"):
        metric(PREDICTION, TARGET, np.ones((5, 1), bool))
