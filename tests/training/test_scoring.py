from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from topolora_hf import AdapterSettings, Predictor
from topolora_hf.training import score_rows, scoring


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
    (scores,), samples = score_rows(predictor, [row], keep_samples=1)
    prediction, target = row["image"].mean(2) > 255 * 0.45, row["mask"] == 1
    assert scores["dice"] == pytest.approx(
        2 * (prediction & target).sum() / (prediction.sum() + target.sum()), abs=0.02
    )
    assert samples[0]["id"] == row["id"] and samples[0]["probability"].shape == row["mask"].shape
    nothing = {**row, "valid_mask": np.zeros_like(row["valid_mask"])}
    assert np.isnan(score_rows(predictor, [nothing])[0][0]["dice"])


@pytest.mark.parametrize("count", [2, 3, 7])
def test_processes_share_the_images_and_all_see_all_scores_in_order(predictor, make_rows, monkeypatch, count):
    rows = make_rows(5)
    alone, pictures = score_rows(predictor, rows, keep_samples=3)
    parts = []
    monkeypatch.setattr(scoring, "gather_object", lambda part: parts.append(part) or part)
    for index in range(count):
        score_rows(predictor, rows, Process(index, count), keep_samples=3)
    scored, kept = parts[0::2], parts[1::2]
    assert sum(map(len, scored)) == len(rows)
    gathered = iter([sum(scored, []), sum(kept, [])])
    monkeypatch.setattr(scoring, "gather_object", lambda _: next(gathered))
    everywhere, shown = score_rows(predictor, rows, Process(1, count), keep_samples=3)
    assert everywhere == alone and [row["id"] for row in alone] == [row["id"] for row in rows]
    assert [row["id"] for row in shown] == [row["id"] for row in pictures] == ["image0", "image1", "image2"]


def test_a_threshold_of_the_settings_is_the_one_that_scores(predictor, make_rows):
    rows = make_rows(1)
    predictor.settings.threshold = 1.0
    strict = score_rows(predictor, rows)[0][0]["recall"]
    predictor.settings.threshold = 0.0
    assert strict < score_rows(predictor, rows)[0][0]["recall"] == 1
    assert torch.is_grad_enabled()
