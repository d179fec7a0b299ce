import csv
import math
import threading

import numpy as np
import pytest

from topolora_hf.metrics.calibration import ece_foreground
from topolora_hf.metrics.report import (
    MASK_METRICS,
    METRICS,
    PROBABILITY_METRICS,
    score_image,
    score_images,
    score_set,
    write_per_image_csv,
)

NAMES = ["dice", "iou", "precision", "recall", "cldice", "bfscore", "relaxed_precision", "relaxed_recall", "relaxed_f1"]
NAMES += ["betti0_error", "betti1_error", "auroc", "average_precision", "ece", "ece_foreground"]
TARGET = np.zeros((16, 16), np.uint8)
TARGET[8, 2:14] = 1
PROBABILITY = np.where(TARGET == 1, 0.7, 0.2).astype(np.float32)
PROBABILITY[8, 2:6] = 0.4
PROBABILITY[3, 3] = 0.5


@pytest.mark.parametrize("with_field_of_view", [False, True])
def test_scores_are_those_of_each_metric(with_field_of_view):
    probability, valid_mask = PROBABILITY, None
    if with_field_of_view:
        # Off centre, and bright outside: cropping to it must neither move nor reveal anything.
        valid_mask = np.zeros((16, 16), bool)
        valid_mask[5:14, 3:], valid_mask[9, 9] = True, False
        probability = np.where(valid_mask, PROBABILITY, 1)
    scores = score_image(probability, TARGET, valid_mask, threshold=0.6)
    prediction = probability >= np.float32(0.6)
    expected = {name: metric(prediction, TARGET, valid_mask) for name, metric in MASK_METRICS.items()}
    expected |= {name: metric(probability, TARGET, valid_mask) for name, metric in PROBABILITY_METRICS.items()}
    expected["ece_foreground"] = ece_foreground(probability, TARGET, valid_mask, threshold=0.6)
    assert scores == pytest.approx(expected)
    assert list(scores) == list(METRICS) == NAMES


def test_nothing_to_score_is_undefined_throughout():
    scores = score_image(PROBABILITY, TARGET, np.zeros((16, 16), bool))
    assert list(scores) == NAMES and np.isnan(list(scores.values())).all()


def test_threshold_itself_counts_as_foreground_and_field_of_view_is_respected():
    assert score_image(PROBABILITY, TARGET)["precision"] == pytest.approx(8 / 9)
    assert score_image(PROBABILITY, TARGET)["recall"] == pytest.approx(8 / 12)
    lower_half = np.arange(16)[:, None].repeat(16, 1) > 4
    assert score_image(PROBABILITY, TARGET, lower_half)["precision"] == 1


def test_better_maps_score_higher():
    better = np.where(TARGET == 1, 0.7, 0.2)
    assert score_image(better, TARGET)["dice"] == 1 > score_image(PROBABILITY, TARGET)["dice"]


@pytest.mark.parametrize("bad", [np.nan, -0.1, 3.0])
def test_values_that_are_no_probabilities_are_refused(bad):
    broken = PROBABILITY.copy()
    broken[0, 0] = bad
    with pytest.raises(ValueError, match="probability must lie in"):
        score_image(broken, TARGET)


def test_bad_threshold_and_shape_are_refused():
    with pytest.raises(ValueError, match="threshold must lie in"):
        score_image(PROBABILITY, TARGET, threshold=50)
    with pytest.raises(ValueError, match=r"probability has shape \(8, 16\), target has shape \(16, 16\)"):
        score_image(PROBABILITY[:8], TARGET)
    with pytest.raises(ValueError, match="valid_mask has shape"):
        score_image(PROBABILITY, TARGET, TARGET[:8])


def samples(count: int) -> list[dict]:
    rng = np.random.default_rng(0)
    drawn = []
    for index in range(count):
        shape = (10 + index, 20)
        arrays = {"probability": rng.random(shape), "mask": rng.random(shape) < 0.3, "valid_mask": np.ones(shape, bool)}
        drawn.append({"id": f"image{index}", **arrays})
    return drawn


@pytest.mark.parametrize("workers", [None, 1, 3])
def test_images_scored_at_once_score_as_one_by_one_and_keep_their_order(workers):
    drawn = samples(11)
    del drawn[4]["valid_mask"]
    rows = score_images(iter(drawn), threshold=0.3, workers=workers)
    assert [row.pop("id") for row in rows] == [sample["id"] for sample in drawn]
    assert rows == [score_image(sample["probability"], sample["mask"], threshold=0.3) for sample in drawn]
    assert score_images([], workers=workers) == []


def test_only_a_few_samples_are_held_at_a_time(monkeypatch):
    taken, ahead_as_far_as_it_goes, taken_when_scored = [], threading.Event(), []

    def source():
        for sample in samples(12):
            taken.append(sample["id"])
            if len(taken) == 4:
                ahead_as_far_as_it_goes.set()
            yield sample

    def score(*_):
        assert ahead_as_far_as_it_goes.wait(10)
        taken_when_scored.append(len(taken))
        return {"dice": 1.0}

    monkeypatch.setattr("topolora_hf.metrics.report.score_image", score)
    assert len(score_images(source(), workers=2)) == 12
    assert all(count <= scored + 4 for scored, count in enumerate(taken_when_scored))


def test_a_bad_image_is_named():
    drawn = samples(5)
    drawn[3]["probability"] = drawn[3]["probability"] * 100
    with pytest.raises(ValueError, match=r"image image3: probability must lie in \[0, 1\]"):
        score_images(drawn, workers=2)
    with pytest.raises(ValueError, match="workers must be 1 or more, got 0"):
        score_images(drawn, workers=0)


def test_means_leave_undefined_scores_out():
    rows = [
        {"id": "a", "dice": 0.2, "cldice": math.nan},
        {"id": "b", "dice": 0.4, "cldice": math.nan},
        {"id": "c", "dice": math.nan, "cldice": math.nan},
    ]
    means = score_set(rows)
    assert means["dice"] == pytest.approx(0.3)
    assert math.isnan(means["cldice"])
    assert means["n"] == 3 and set(means) == {"dice", "cldice", "n"}


def test_every_image_counts_alike_whatever_its_size():
    large, small = np.ones((40, 40)), np.zeros((4, 4))
    rows = [score_image(large, np.ones((40, 40), bool)), score_image(small, np.ones((4, 4), bool))]
    assert score_set(rows)["dice"] == 0.5


def test_means_refuse_what_would_mislead():
    with pytest.raises(ValueError, match="no row"):
        score_set([])
    with pytest.raises(ValueError, match="more than once: a"):
        score_set([{"id": "a", "dice": 1.0}, {"id": "b", "dice": 1.0}, {"id": "a", "dice": 0.0}])
    with pytest.raises(ValueError, match="row b has the columns"):
        score_set([{"id": "a", "dice": 1.0}, {"id": "b", "iou": 1.0}])


def test_table_has_id_first_and_reads_back_exactly(tmp_path):
    rows = [{"dice": 1 / 3, "id": "with, comma", "cldice": math.nan}, {"dice": 1.0, "id": "b", "cldice": 0.5}]
    path = tmp_path / "run" / "per_image.csv"
    write_per_image_csv(path, rows)
    with path.open(newline="") as file:
        back = list(csv.DictReader(file))
    assert list(back[0]) == ["id", "dice", "cldice"]
    assert [row["id"] for row in back] == ["with, comma", "b"]
    assert float(back[0]["dice"]) == 1 / 3 and math.isnan(float(back[0]["cldice"]))
    assert list(path.parent.iterdir()) == [path]


def test_a_table_that_fails_half_way_leaves_the_old_one(tmp_path):
    class Unwritable:
        def __str__(self):
            raise RuntimeError("no text")

    path = tmp_path / "per_image.csv"
    write_per_image_csv(path, [{"id": "old", "dice": 1.0}])
    before = path.read_text()
    with pytest.raises(RuntimeError, match="no text"):
        write_per_image_csv(path, [{"id": "a", "dice": 1.0}, {"id": "b", "dice": Unwritable()}])
    assert path.read_text() == before


def test_a_table_without_ids_is_refused(tmp_path):
    with pytest.raises(ValueError, match="needs an id"):
        write_per_image_csv(tmp_path / "per_image.csv", [{"dice": 1.0}])
    assert not any(tmp_path.iterdir())
