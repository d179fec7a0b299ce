"""Scores of several classes on a drawn case, against formulas written down a second time."""

import csv
import json
import math
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from torch import nn

from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.data.windows import normalise
from topolora_hf.inference.predictor import Predictor
from topolora_hf.metrics.confusion import accuracy_on_structure, confusion, confusion_table
from topolora_hf.metrics.report import bootstrap_intervals, score_set
from topolora_hf.training.scoring import score_rows

LABELS = ("artery", "vein", "other")


class Channels(nn.Module):
    """Map k is the image's channel k."""

    def forward(self, pixel_values):
        return SimpleNamespace(logits=3 * pixel_values)


def drawn(number: int, empty: tuple[int, ...] = ()) -> dict:
    """Crossing bars, a class a channel, found in part: noise is added. Classes in `empty` are not there."""
    rng = np.random.default_rng(number)
    mask = np.zeros((3, 40, 56), np.uint8)
    mask[0, 5:9], mask[1, :, 20:24], mask[2, 25:28, 10:50] = 1, 1, 1
    mask[list(empty)] = 0
    image = np.clip(60 + 120 * mask + rng.normal(0, 60, mask.shape), 0, 255).astype(np.uint8).transpose(1, 2, 0)
    valid = np.ones((40, 56), bool)
    valid[:, :3] = False
    return {"id": f"image{number}", "image": image, "mask": mask, "valid_mask": valid}


ROWS = [drawn(0), drawn(1, empty=(2,)), drawn(2, empty=(0, 1, 2)), drawn(3)]


@pytest.fixture(scope="module", params=[False, True], ids=["overlapping", "exclusive"])
def scored(request):
    settings = AdapterSettings(
        "none", tile_size=64, image_size=64, labels=LABELS, exclusive=request.param, threshold=(0.4, 0.5, 0.6)
    )
    rows = ROWS
    if request.param:  # where classes share a pixel, the first has it
        first = [row["mask"].astype(bool) for row in ROWS]
        first = [np.stack([m[0], m[1] & ~m[0], m[2] & ~m[0] & ~m[1]]).astype(np.uint8) for m in first]
        rows = [{**row, "mask": mask} for row, mask in zip(ROWS, first, strict=True)]
    predictor = Predictor(Channels(), settings, device="cpu")
    return rows, predictor, score_rows(predictor, rows)


def expected_maps(row: dict, exclusive: bool) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and masks of a row, by the definitions."""
    logits, limits = 3 * normalise(row["image"]).double().numpy(), np.array([0.4, 0.5, 0.6])[:, None, None]
    if not exclusive:
        probabilities = 1 / (1 + np.exp(-logits))
        return probabilities, probabilities >= limits
    odds = np.exp(logits)
    probabilities = odds / (1 + odds.sum(0))
    likeliest = probabilities == probabilities.max(0)
    return probabilities, likeliest & (probabilities.sum(0) >= limits)


def test_each_class_is_scored_by_itself_and_the_mean_is_over_the_classes(scored):
    rows, predictor, scores = scored
    exclusive, of_class = predictor.settings.exclusive, {label: [] for label in LABELS}
    for row in rows:
        _, masks = expected_maps(row, exclusive)
        for label, found, true in zip(LABELS, masks & row["valid_mask"], row["mask"] & row["valid_mask"], strict=True):
            total = found.sum() + true.sum()
            of_class[label].append(2 * (found & (true == 1)).sum() / total if total else math.nan)
    assert [(row["id"], row["class"]) for row in scores.rows] == [
        (row["id"], label) for row in rows for label in LABELS
    ]
    np.testing.assert_allclose([row["dice"] for row in scores.rows], np.array(list(of_class.values())).T.ravel())
    metrics = scores.metrics(predictor.settings, "bars", "test", "native")
    for label in LABELS:
        assert metrics["classes"][label]["dice"] == pytest.approx(np.nanmean(of_class[label]))
    assert metrics["dice"] == pytest.approx(np.mean([np.nanmean(own) for own in of_class.values()]))
    low, high = metrics["intervals"]["dice"]
    assert low < metrics["dice"] < high and metrics["n"] == metrics["classes"]["vein"]["n"] == len(rows)
    means = scores.means()
    assert means["dice_vein"] == metrics["classes"]["vein"]["dice"] and means["dice"] == metrics["dice"]


def test_recall_of_a_class_that_an_image_lacks_is_left_out_and_counted(scored):
    _, predictor, scores = scored
    classes = scores.metrics(predictor.settings, "bars", "test", "native")["classes"]
    assert classes["artery"]["n_defined"]["recall"] == 3 and classes["other"]["n_defined"]["recall"] == 2
    assert "ece" not in classes["artery"]["n_defined"]


def test_all_classes_taken_for_one_are_scored_too(scored):
    rows, predictor, scores = scored
    dice = []
    for row in rows:
        _, masks = expected_maps(row, predictor.settings.exclusive)
        found, true = (maps.any(0) & row["valid_mask"] for maps in (masks, row["mask"]))
        dice.append(2 * (found & true).sum() / (found.sum() + true.sum()))
    assert scores.metrics(predictor.settings, "bars", "test", "native")["all"]["dice"] == pytest.approx(np.mean(dice))


def test_the_confusion_matrix_and_the_accuracies_count_pixels(scored):
    rows, predictor, scores = scored
    metrics = scores.metrics(predictor.settings, "bars", "test", "native")
    table, exclusive, on_all, on_found = metrics["confusion"], predictor.settings.exclusive, [], []
    names, expected = table["labels"], np.zeros((len(table["labels"]),) * 2, int)
    by_probability = []
    for row in rows:
        (probabilities, masks), valid = expected_maps(row, exclusive), row["valid_mask"]
        right, single, found, likely = 0, 0, 0, 0
        for y, x in np.argwhere(valid):
            true, seen = (tuple(np.flatnonzero(maps[:, y, x])) for maps in (row["mask"], masks))
            places = [names.index("+".join(LABELS[k] for k in classes) or "background") for classes in (true, seen)]
            expected[*places] += 1
            single += len(true) == 1
            found += len(true) == 1 and bool(seen)
            right += len(true) == 1 and true == seen
            likely += len(true) == 1 and int(np.argmax(probabilities[:, y, x])) == true[0]
        on_all.append(right / single if single else math.nan)
        on_found.append(right / found if found else math.nan)
        by_probability.append(likely / single if single else math.nan)
    np.testing.assert_array_equal(table["pixels"], expected)
    assert names[:4] == ["background", *LABELS] and (len(names) == 4) == exclusive
    assert metrics["accuracy_on_structure"] == pytest.approx(np.nanmean(on_all))
    assert metrics["accuracy_on_found_structure"] == pytest.approx(np.nanmean(on_found))
    assert metrics["accuracy_by_probability"] == pytest.approx(np.nanmean(by_probability))
    assert metrics["accuracy_on_structure"] < metrics["accuracy_on_found_structure"] < 1
    assert {"accuracy_on_structure", "accuracy_on_found_structure"} < metrics["intervals"].keys()


def test_counts_of_exclusive_classes_are_monais():
    monai = pytest.importorskip("monai.metrics")
    import torch

    rng = np.random.default_rng(0)
    true, found = (np.eye(4, dtype=bool)[rng.integers(0, 4, (20, 30))].transpose(2, 0, 1) for _ in range(2))
    theirs = monai.get_confusion_matrix(torch.tensor(found)[None].float(), torch.tensor(true)[None].float())[0].numpy()
    pixels = np.array(confusion_table(confusion(found[1:], true[1:]), LABELS)["pixels"])
    hits, predicted, actual = np.diag(pixels), pixels.sum(0), pixels.sum(1)
    ours = np.stack([hits, predicted - hits, 600 - predicted - actual + hits, actual - hits], axis=1)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("classes", [1, 2, 40])  # the last does not fit into one number a pixel
def test_pixels_are_counted_by_all_their_classes(classes):
    rng = np.random.default_rng(0)
    true, found = (rng.random((classes, 13, 17)) < 0.15 for _ in range(2))
    valid = rng.random((13, 17)) < 0.8
    sets = [[tuple(np.flatnonzero(maps[:, y, x]).tolist()) for maps in (true, found)] for y, x in np.argwhere(valid)]
    assert confusion(found, true, valid) == Counter(map(tuple, sets))
    assert confusion(found[:, :0], true[:, :0]).total() == 0


def test_accuracy_needs_structure():
    nothing = confusion(np.ones((2, 3, 3), bool), np.zeros((2, 3, 3), bool))
    assert np.isnan(accuracy_on_structure(nothing)).all()
    both = confusion(np.ones((2, 3, 3), bool), np.ones((2, 3, 3), bool))
    assert np.isnan(accuracy_on_structure(both)).all()


def test_tables_and_pictures_of_classes_are_saved(scored, tmp_path):
    rows, predictor, scores = scored
    scores.save(tmp_path)
    with (tmp_path / "per_image.csv").open() as file:
        table = list(csv.DictReader(file))
    assert list(table[0])[:3] == ["id", "class", "dice"] and len(table) == len(rows) * len(LABELS)
    for name in ("samples", "best_and_worst", "score_distribution", "reliability", "precision_recall"):
        Image.open(tmp_path / f"{name}.png").verify()
    metrics = scores.metrics(predictor.settings, "bars", "test", "native")
    assert json.loads(json.dumps(metrics))["threshold"] == [0.4, 0.5, 0.6] and metrics["labels"] == list(LABELS)


def test_masks_of_another_number_of_classes_are_refused(scored):
    _, predictor, _ = scored
    with pytest.raises(ValueError, match=r"image image0 has masks of 2 classes, the network predicts 3 \(artery, vein"):
        score_rows(predictor, [{**ROWS[0], "mask": ROWS[0]["mask"][:2]}])


def test_an_interval_of_a_mean_over_classes_draws_images_with_all_their_classes():
    values = np.random.default_rng(0).random((30, 2))
    values[3, 0] = values[5, 1] = values[7] = np.nan
    rows = [{"id": n, "class": k, "dice": float(values[n, k])} for n in range(30) for k in range(2)]
    assert score_set(rows)["dice"] == pytest.approx(np.nanmean(values, axis=0).mean())
    kept = np.delete(values, 7, axis=0)
    draws = np.random.default_rng(0).integers(29, size=(2000, 29))
    means = np.nanmean(np.nanmean(kept[draws], axis=1), axis=1)
    assert bootstrap_intervals(rows)["dice"] == pytest.approx(tuple(np.percentile(means, (2.5, 97.5))))
    with pytest.raises(ValueError, match="class 1 was scored on other images than class 0"):
        score_set([row for row in rows if (row["id"], row["class"]) != (4, 1)])
