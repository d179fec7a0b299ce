import math
import pickle

import evaluate
import numpy as np
import pytest
import torch

from topolora_hf import metrics
from topolora_hf.metrics import METRICS, SegmentationMetric, score_image


@pytest.fixture
def images() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Probability maps and masks of three sizes, and one pair with nothing in it."""
    rng = np.random.default_rng(0)
    predictions = [rng.random(shape) for shape in ((20, 30), (7, 5), (1, 64))]
    references = [rng.random(array.shape) > 0.5 for array in predictions]
    return [*predictions, np.zeros((4, 4))], [*references, np.zeros((4, 4), bool)]


@pytest.fixture
def build(tmp_path):
    """`build(*names, threshold=0.5)`: the metric of those names."""
    return lambda *names, **options: SegmentationMetric(names, cache_dir=str(tmp_path), **options)


def test_all_names_give_their_means_over_images_of_different_sizes(build, images):
    rows = [score_image(*pair, threshold=0.3) for pair in zip(*images, strict=True)]
    assert math.isnan(rows[-1]["dice"])
    result = build(*METRICS, threshold=0.3).compute(predictions=images[0], references=images[1])
    assert list(result) == list(METRICS)
    assert result == {name: pytest.approx(np.nanmean([row[name] for row in rows])) for name in METRICS}


def test_combined_metrics_give_every_score_in_one_call(build, images):
    combined = evaluate.combine([build("dice", "cldice"), build("auroc")])
    together = combined.compute(predictions=images[0], references=images[1])
    assert together == build("dice", "cldice", "auroc").compute(predictions=images[0], references=images[1])


def test_batches_and_single_pairs_add_up(build, images):
    predictions, references = images
    expected = build("cldice").compute(predictions=predictions, references=references)
    metric, combined = build("cldice"), evaluate.combine([build("cldice")])
    for adder in (metric, combined):
        adder.add_batch(predictions=predictions[:2], references=references[:2])
    for prediction, reference in list(zip(predictions, references, strict=True))[2:]:
        metric.add(prediction=prediction, reference=reference)
        combined.add(prediction, reference)
    assert metric.compute() == expected == combined.compute()


def test_masks_as_lists_class_indices_and_tensors_are_read(build):
    for predictions in ([[[1, 0], [1, 0]]], np.array([[[1, 0], [1, 0]]], np.uint8), torch.tensor([[[1, 0], [1, 0]]])):
        assert build("iou").compute(predictions=predictions, references=[[[1, 0], [0, 0]]]) == {"iou": 0.5}


def test_valid_masks_restrict_the_score(build, images):
    valid_masks = [np.arange(mask.shape[1])[None].repeat(len(mask), 0) % 2 == 0 for mask in images[1]]
    expected = [metrics.dice(p >= 0.5, *pair) for p, *pair in zip(*images, valid_masks, strict=True)]
    metric = build("dice")
    metric.add_batch(predictions=images[0], references=images[1])
    assert metric.compute(valid_masks=valid_masks) == {"dice": pytest.approx(np.nanmean(expected))}
    with pytest.raises(ValueError, match="got 2 valid_masks for 4 images"):
        build("dice").compute(predictions=images[0], references=images[1], valid_masks=valid_masks[:2])


def test_what_is_no_probability_mask_or_name_is_refused(build):
    with pytest.raises(ValueError, match=r"prediction must lie in \[0, 1\], got 2.0 to 2.0"):
        build("dice").compute(predictions=[np.full((3, 3), 2.0)], references=[np.ones((3, 3), bool)])
    with pytest.raises(ValueError, match="reference must be bool or hold only 0 and 1"):
        build("dice").compute(predictions=[np.ones((3, 3))], references=[np.full((3, 3), 255)])
    for names in (["dyce"], "dice", []):
        with pytest.raises(ValueError, match="names must be a list from dice, iou, .*; got"):
            SegmentationMetric(names)


def test_nothing_but_empty_images_is_undefined(build):
    empty = [np.zeros((3, 3), bool)]
    assert math.isnan(build("dice").compute(predictions=empty, references=empty)["dice"])


def test_works_in_memory_and_survives_pickling(build, images):
    metric = pickle.loads(pickle.dumps(build("dice", keep_in_memory=True)))
    assert metric.compute(predictions=images[0], references=images[1])["dice"] > 0
    assert "Dice coefficient" in metric.description
