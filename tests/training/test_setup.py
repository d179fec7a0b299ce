"""What a run is built of, from its settings."""

from dataclasses import replace

import pytest
import torch

from topolora_hf import Augmentation, TrainArguments
from topolora_hf.adapters import AdapterSettings
from topolora_hf.training.setup import build_tiles

# Zoom and noise alone are varied.
STILL = Augmentation(flips=False, quarter_turns=False, brightness=0, contrast=0, gamma=0, colour=0)


def _tiles(rows, **settings):
    args = TrainArguments(dataset="drive", **settings)
    return build_tiles(args, rows, AdapterSettings(base="none", tile_size=64, view="whole"), STILL, 1)


def test_zoom_and_noise_are_the_data_sets_unless_the_run_says_otherwise(make_rows):
    rows = make_rows(1)
    assert _tiles(rows).augmentation == STILL
    assert _tiles(rows, zoom=2.0).augmentation == replace(STILL, zoom=(0.5, 2.0))
    assert _tiles(rows, noise=0.2).augmentation == replace(STILL, noise=0.2)


@pytest.mark.parametrize("settings, same", [({}, False), ({"zoom": 1.0}, False), ({"zoom": 1.0, "noise": 0.0}, True)])
def test_without_zoom_and_noise_tiles_are_the_image_itself(make_rows, settings, same):
    rows = make_rows(1)
    plain = _tiles(rows, augmentation=False)[0]
    varied = _tiles(rows, **settings)[0]
    assert torch.equal(varied["pixel_values"], plain["pixel_values"]) == same
    assert torch.equal(varied["labels"], plain["labels"]) == ("zoom" in settings)
