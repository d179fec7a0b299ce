import csv
import math

import numpy as np
import pytest

from topolora_hf.metrics import cldice, dice, iou, precision, recall, score_image, score_set, write_per_image_csv

TARGET = np.zeros((16, 16), np.uint8)
TARGET[8, 2:14] = 1
PROBABILITY = np.where(TARGET == 1, 0.7, 0.2).astype(np.float32)
PROBABILITY[8, 2:6] = 0.4
PROBABILITY[3, 3] = 0.5


def test_scores_are_those_of_the_thresholded_map():
    scores = score_image(PROBABILITY, TARGET, threshold=0.4)
    prediction = PROBABILITY >= np.float32(0.4)
    expected = {metric.__name__: metric(prediction, TARGET) for metric in (dice, iou, precision, recall, cldice)}
    assert scores == expected
    assert list(scores) == ["dice", "iou", "precision", "recall", "cldice"]


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
    with pytest.raises(ValueError, match="prediction has shape"):
        score_image(PROBABILITY[:8], TARGET)


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
