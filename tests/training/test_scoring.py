from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.inference.predictor import Predictor
from topolora_hf.training import scoring
from topolora_hf.training.scoring import score_rows


class Brightness(nn.Module):
    """Logits that are positive where a tile is brighter than the mean of all colours."""

    def forward(self, pixel_values):
        return SimpleNamespace(logits=100 * pixel_values.mean(1, keepdim=True))


@pytest.fixture
def predictor():
    return Predictor(Brightness(), AdapterSettings(base="none", tile_size=32, image_size=32), device="cpu")


class Process:
    def __init__(self, index, count):
        self.process_index, self.num_processes = index, count


def test_scores_are_those_of_the_prediction_inside_the_field_of_view(predictor, make_rows):
    (row,) = make_rows(1)
    scores = score_rows(predictor, [row])
    prediction, target = row["image"].mean(2) > 255 * 0.45, row["mask"][0] == 1
    assert scores.rows[0]["dice"] == pytest.approx(
        2 * (prediction & target).sum() / (prediction.sum() + target.sum()), abs=0.02
    )
    sample = scores.samples[0]
    assert sample["id"] == row["id"] and sample["probabilities"].shape == row["mask"].shape
    nothing = {**row, "valid_mask": np.zeros_like(row["valid_mask"])}
    assert np.isnan(score_rows(predictor, [nothing]).rows[0]["dice"])


@pytest.mark.parametrize("count", [2, 7])
def test_processes_share_the_images_and_all_see_all_scores_in_order(predictor, make_rows, monkeypatch, count):
    rows = make_rows(9)
    alone = score_rows(predictor, rows)
    parts = []
    monkeypatch.setattr(scoring, "gather_object", lambda part: parts.append(part) or part)
    for index in range(count):
        score_rows(predictor, rows, Process(index, count))
    scored, samples, extremes = parts[0::3], parts[1::3], parts[2::3]
    assert sum(map(len, scored)) == len(rows)
    gathered = iter([sum(scored, []), sum(samples, []), sum(extremes, [])])
    monkeypatch.setattr(scoring, "gather_object", lambda _: next(gathered))
    everywhere = score_rows(predictor, rows, Process(1, count))
    assert everywhere.rows == alone.rows and [row["id"] for row in alone.rows] == [row["id"] for row in rows]
    first = [row["id"] for row in rows[:6]]
    assert [row["id"] for row in everywhere.samples] == [row["id"] for row in alone.samples] == first
    assert {row["id"] for row in alone.best_and_worst} <= {row["id"] for row in everywhere.best_and_worst}
    assert sum(image.curves[0].true for image in everywhere.counts) == sum(
        (row["mask"] * row["valid_mask"]).sum() for row in rows
    )


def test_a_threshold_of_the_settings_is_the_one_that_scores(predictor, make_rows):
    rows = make_rows(1)
    predictor.settings.threshold = 1.0
    strict = score_rows(predictor, rows).rows[0]["recall"]
    predictor.settings.threshold = 0.0
    assert strict < score_rows(predictor, rows).rows[0]["recall"] == 1
    assert torch.is_grad_enabled()


def test_metrics_say_what_was_scored_and_have_an_interval_about_every_mean(predictor, make_rows):
    metrics = score_rows(predictor, make_rows(4)).metrics(predictor.settings, "crosses", "test", "native", seed=7)
    low, high = metrics["intervals"]["dice"]
    assert metrics["n"] == 4 and low <= metrics["dice"] <= high
    assert (metrics["dataset"], metrics["base"], metrics["threshold"], metrics["seed"]) == ("crosses", "none", 0.5, 7)
    (alone,) = (score_rows(predictor, make_rows(1)).metrics(predictor.settings, "crosses", "test", "native"),)
    assert np.isnan(alone["intervals"]["dice"]).all()


def test_tables_and_pictures_are_saved_even_when_no_target_has_foreground(predictor, make_rows, tmp_path):
    rows = make_rows(2)
    score_rows(predictor, rows).save(tmp_path)
    pictures = {"samples", "score_distribution", "reliability", "precision_recall", "best_and_worst"}
    assert {path.stem for path in tmp_path.glob("*.png")} == pictures
    assert (tmp_path / "per_image.csv").read_text().startswith("id,dice,")
    empty = [{**row, "mask": np.zeros_like(row["mask"])} for row in rows]
    score_rows(predictor, empty).save(tmp_path / "empty")
    assert "precision_recall" not in {path.stem for path in (tmp_path / "empty").glob("*.png")}
