"""Training on a few of the images: `train_images`."""

from types import SimpleNamespace

import numpy as np
import pytest

from topolora_hf.data.errors import DataError
from topolora_hf.training.arguments import TrainArguments
from topolora_hf.data.loading import SegmentationData
from topolora_hf.training.setup import load_splits


def splits_of(dataset, train_images=None, seed=0) -> dict:
    return load_splits(TrainArguments(dataset=str(dataset), train_images=train_images, seed=seed), None)[1]


def test_more_images_hold_the_fewer_and_seeds_draw_others(crosses):
    everything = splits_of(crosses)
    drawn = {count: set(splits_of(crosses, count)["train"]["id"]) for count in (1, 2, 4)}
    assert [len(ids) for ids in drawn.values()] == [1, 2, 4]
    assert drawn[1] < drawn[2] < drawn[4] < set(everything["train"]["id"])
    assert len({splits_of(crosses, 1, seed)["train"]["id"][0] for seed in range(6)}) > 1


def test_validation_and_test_images_stay(crosses):
    everything, few = splits_of(crosses), splits_of(crosses, 1)
    for split in ("validation", "test"):
        assert few[split]["id"] == everything[split]["id"]
    row = few["train"][0]
    assert row["image"].shape == (64, 72, 3) and np.unique(row["mask"]).tolist() == [0, 1]


def test_rows_in_memory_are_drawn_too_and_the_callers_stay_whole():
    rows = {"train": [{"id": str(number)} for number in range(5)], "test": [{"id": "t"}]}
    args = TrainArguments(dataset="crosses", train_images=2)
    _, few = load_splits(args, rows)
    assert len(few["train"]) == 2 and len(rows["train"]) == 5


def test_more_images_than_there_are_is_an_error(crosses):
    with pytest.raises(DataError, match=r"train_images is 20, data set .*crosses has 5 training images"):
        splits_of(crosses, 20)
    with pytest.raises(ValueError, match="train_images must be at least 1, got 0"):
        TrainArguments(dataset="drive", train_images=0)


def test_a_scaling_that_all_training_images_decided_is_refused():
    data = SegmentationData({"train": [0, 1, 2], "test": [0]})
    data.intensity = SimpleNamespace()
    with pytest.raises(DataError, match="scaling was fitted on all training images"):
        load_splits(TrainArguments(dataset="radar", train_images=1), data)
