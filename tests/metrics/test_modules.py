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
}


@pytest.fixture
def pairs() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Masks of three sizes, one pair empty."""
    rng = np.random.default_rng(0)
    predictions = [rng.random(shape) > 0.5 for shape in ((20, 30), (7, 5), (1, 64))]
    references = [rng.random(mask.shape) > 0.5 for mask in predictions]
    return [*predictions, np.zeros((4, 4), bool)], [*references, np.zeros((4, 4), bool)]


def build(name: str, cache_dir) -> evaluate.Metric:
    return CLASSES[name](cache_dir=str(cache_dir))


@pytest.mark.parametrize("name", CLASSES)
def test_mean_over_images_of_different_sizes(name, pairs, tmp_path):
    values = [metrics.METRICS[name](*pair) for pair in zip(*pairs, strict=True)]
    assert math.isnan(values[-1])
    result = build(name, tmp_path).compute(predictions=pairs[0], references=pairs[1])
    assert result == {name: pytest.approx(np.nanmean(values))}


def test_combined_metrics_give_every_score_in_one_call(pairs, tmp_path):
    combined = evaluate.combine([build(name, tmp_path) for name in CLASSES])
    together = combined.compute(predictions=pairs[0], references=pairs[1])
    alone = {name: build(name, tmp_path).compute(predictions=pairs[0], references=pairs[1])[name] for name in CLASSES}
    assert together == alone


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
