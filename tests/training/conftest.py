"""Rows and settings for runs that take a second or two, and a way to interrupt one."""

import numpy as np
import pytest

from topolora_hf.training import loop, results, scoring
from topolora_hf.training.arguments import TrainArguments
from topolora_hf.training.run import train


def make_crosses(count: int, first: int = 0, size: tuple[int, int] = (72, 80)) -> list[dict]:
    """Bright crosses of width 3 on a dark, noisy background."""
    rows = []
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        mask = np.zeros(size, np.uint8)
        y, x = (int(rng.integers(4, side - 8)) for side in size)
        mask[y : y + 3] = mask[:, x : x + 3] = 1
        image = rng.integers(0, 80, (*size, 3), dtype=np.uint8) + 120 * mask[..., None]
        rows.append({"id": f"image{number}", "image": image, "mask": mask, "valid_mask": np.ones(size, bool)})
    return rows


@pytest.fixture(scope="session")
def make_rows():
    """`make_rows(count, first=0)`: decoded rows named image0, image1, ..."""
    return make_crosses


@pytest.fixture(scope="session")
def splits():
    return {"train": make_crosses(3), "validation": make_crosses(1, first=3), "test": make_crosses(3, first=4)}


@pytest.fixture
def make_arguments(tmp_path, stock_sam):
    """`make_arguments(name="run", **settings)`: a few float32 steps on a small stock SAM."""

    def make(name: str = "run", **settings) -> TrainArguments:
        few = {"image_size": 64, "tile_size": 48, "detail_channels": 4, "max_steps": 2, "batch_size": 2}
        few |= {"num_workers": 0, "num_threads": 1, "mixed_precision": "no", "log_every": 1, "score_untrained": False}
        few |= {"learning_rate": 1e-3, "detail_learning_rate": 1e-3}
        return TrainArguments(
            **{"dataset": "crosses", "base": stock_sam("small"), "output_dir": str(tmp_path / name), **few, **settings}
        )

    return make


@pytest.fixture
def interrupt(monkeypatch):
    """`interrupt(args, splits, step)`: trains, and is stopped before that step."""

    class Stopped(Exception):
        pass

    def run(args: TrainArguments, splits: dict, step: int) -> None:
        step_batch = loop.Trainer._step_batch

        def stop(trainer, batch):
            if trainer.step == step:
                raise Stopped
            return step_batch(trainer, batch)

        with monkeypatch.context() as patch:
            patch.setattr(loop.Trainer, "_step_batch", stop)
            with pytest.raises(Stopped):
                train(args, splits)

    return run


@pytest.fixture
def no_pictures(monkeypatch):
    """Runs end without the drawing of their pictures, which takes most of the time of a short one."""
    monkeypatch.setattr(results, "save_curves", lambda *_: None)
    monkeypatch.setattr(scoring.SplitScores, "save", lambda *_: None)
