import math
import pickle
import subprocess
import sys

import evaluate
import numpy as np
import pytest
import torch

import topolora_hf
from topolora_hf import metrics

CLASSES = {
    "dice": metrics.DiceMetric,
    "iou": metrics.IoUMetric,
    "precision": metrics.PrecisionMetric,
    "recall": metrics.RecallMetric,
    "cldice": metrics.ClDiceMetric,
    "bfscore": metrics.BFScoreMetric,
    "relaxed_precision": metrics.RelaxedPrecisionMetric,
    "relaxed_recall": metrics.RelaxedRecallMetric,
    "relaxed_f1": metrics.RelaxedF1Metric,
    "betti0_error": metrics.Betti0ErrorMetric,
    "betti1_error": metrics.Betti1ErrorMetric,
    "auroc": metrics.AUROCMetric,
    "average_precision": metrics.AveragePrecisionMetric,
    "ece": metrics.ECEMetric,
    "ece_foreground": metrics.ForegroundECEMetric,
}
KINDS = {"masks": metrics.MASK_METRICS, "probabilities": metrics.PROBABILITY_METRICS}


@pytest.fixture
def probabilities() -> list[np.ndarray]:
    """Maps of three sizes, and one with nothing in it."""
    rng = np.random.default_rng(0)
    return [*(rng.random(shape) for shape in ((20, 30), (7, 5), (1, 64))), np.zeros((4, 4))]


@pytest.fixture
def pairs(probabilities) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Masks of three sizes, one pair empty."""
    rng = np.random.default_rng(1)
    references = [rng.random(array.shape) > 0.5 for array in probabilities[:-1]]
    return [array > 0.5 for array in probabilities], [*references, np.zeros((4, 4), bool)]


def build(name: str, cache_dir) -> evaluate.Metric:
    return CLASSES[name](cache_dir=str(cache_dir))


def test_every_metric_has_a_class():
    assert list(CLASSES) == list(metrics.METRICS) == [*metrics.MASK_METRICS, *metrics.PROBABILITY_METRICS]


@pytest.mark.parametrize("name", CLASSES)
def test_mean_over_images_of_different_sizes(name, pairs, probabilities, tmp_path):
    predictions = pairs[0] if name in metrics.MASK_METRICS else probabilities
    values = [metrics.METRICS[name](*pair) for pair in zip(predictions, pairs[1], strict=True)]
    assert math.isnan(values[-1]) or name in ("betti0_error", "betti1_error", "ece")
    result = build(name, tmp_path).compute(predictions=predictions, references=pairs[1])
    assert result == {name: pytest.approx(np.nanmean(values))}


@pytest.mark.parametrize("kind", KINDS)
def test_combined_metrics_give_every_score_in_one_call(kind, pairs, probabilities, tmp_path):
    predictions = pairs[0] if kind == "masks" else probabilities
    combined = evaluate.combine([build(name, tmp_path) for name in KINDS[kind]])
    together = combined.compute(predictions=predictions, references=pairs[1])
    assert set(together) == set(KINDS[kind])
    for name, value in together.items():
        assert build(name, tmp_path).compute(predictions=predictions, references=pairs[1])[name] == value


def test_batches_and_single_pairs_add_up(pairs, tmp_path):
    predictions, references = pairs
    expected = build("cldice", tmp_path).compute(predictions=predictions, references=references)
    metric = build("cldice", tmp_path)
    combined = evaluate.combine([build("cldice", tmp_path)])
    for adder in (metric, combined):
        adder.add_batch(predictions=predictions[:2], references=references[:2])
    metric.add(prediction=predictions[2], reference=references[2])
    metric.add(prediction=predictions[3], reference=references[3])
    combined.add(predictions[2], references[2])
    combined.add(predictions[3], references[3])
    assert metric.compute() == expected == combined.compute()


def test_lists_class_indices_and_tensors_are_read(tmp_path):
    for predictions in ([[[1, 0], [1, 0]]], np.array([[[1, 0], [1, 0]]], np.uint8), torch.tensor([[[1, 0], [1, 0]]])):
        result = build("iou", tmp_path).compute(predictions=predictions, references=[[[1, 0], [0, 0]]])
        assert result == {"iou": 0.5}


def test_valid_masks_restrict_the_score(pairs, tmp_path):
    predictions, references = pairs
    valid_masks = [np.arange(mask.shape[1])[None].repeat(len(mask), 0) % 2 == 0 for mask in predictions]
    expected = [metrics.dice(*triple) for triple in zip(predictions, references, valid_masks, strict=True)]
    metric = build("dice", tmp_path)
    metric.add_batch(predictions=predictions, references=references)
    assert metric.compute(valid_masks=valid_masks) == {"dice": pytest.approx(np.nanmean(expected))}
    with pytest.raises(ValueError, match="got 2 valid_masks for 4 images"):
        build("dice", tmp_path).compute(predictions=predictions, references=references, valid_masks=valid_masks[:2])


def test_probabilities_are_refused_instead_of_becoming_foreground(tmp_path):
    with pytest.raises(ValueError, match="prediction must be bool or hold only 0 and 1"):
        build("dice", tmp_path).compute(predictions=[np.full((3, 3), 0.2)], references=[np.ones((3, 3), bool)])


def test_logits_are_refused_instead_of_being_ranked(tmp_path):
    with pytest.raises(ValueError, match=r"prediction must lie in \[0, 1\], got 2.0 to 2.0"):
        build("auroc", tmp_path).compute(predictions=[np.full((3, 3), 2.0)], references=[np.ones((3, 3), bool)])


def test_settings_of_a_metric_are_given_to_compute(pairs, tmp_path):
    predictions, references = pairs
    strict = build("bfscore", tmp_path).compute(predictions=predictions, references=references, tolerance_px=0)
    expected = [metrics.bfscore(*pair, tolerance_px=0) for pair in zip(*pairs, strict=True)]
    assert strict == {"bfscore": pytest.approx(np.nanmean(expected))}
    assert build("bfscore", tmp_path).compute(predictions=predictions, references=references)["bfscore"] > 0.9
    with pytest.raises(TypeError, match="tolerance"):
        build("dice", tmp_path).compute(predictions=predictions, references=references, tolerance_px=0)


def test_nothing_but_empty_images_is_undefined(tmp_path):
    empty = [np.zeros((3, 3), bool)]
    assert math.isnan(build("dice", tmp_path).compute(predictions=empty, references=empty)["dice"])


def test_works_in_memory_and_survives_pickling(pairs, tmp_path):
    metric = pickle.loads(pickle.dumps(metrics.DiceMetric(cache_dir=str(tmp_path), keep_in_memory=True)))
    assert metric.compute(predictions=pairs[0], references=pairs[1])["dice"] > 0
    assert "Dice coefficient" in metric.description


def test_reading_a_score_does_not_import_torch():
    # A stand-in for the package itself, whose __init__ may import more.
    script = f"""
import sys, types
package = types.ModuleType("topolora_hf")
package.__path__ = {list(topolora_hf.__path__)!r}
sys.modules["topolora_hf"] = package
import topolora_hf.metrics
sys.exit("torch" in sys.modules or "evaluate" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
