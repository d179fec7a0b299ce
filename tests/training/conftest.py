"""Rows and settings for runs that take a second or two, and one finished run that tests share."""

from pathlib import Path

import numpy as np
import pytest
import torch

from topolora_hf.network.segmenter import TopoSamForSegmentation
from topolora_hf.training.arguments import TrainArguments
from topolora_hf.training.checkpoints import FOLDER, read_checkpoint
from topolora_hf.training.run import train
from topolora_hf.training.setup import build_network


def make_crosses(count: int, first: int = 0, size: tuple[int, int] = (72, 80)) -> list[dict]:
    """Bright crosses of width 3 on a dark, noisy background."""
    rows = []
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        mask = np.zeros(size, np.uint8)
        y, x = (int(rng.integers(4, side - 8)) for side in size)
        mask[y : y + 3] = mask[:, x : x + 3] = 1
        image = rng.integers(0, 80, (*size, 3), dtype=np.uint8) + 120 * mask[..., None]
        rows.append({"id": f"image{number}", "image": image, "mask": mask[None], "valid_mask": np.ones(size, bool)})
    return rows


def small_settings(base: str, output_dir: Path, **settings) -> dict:
    """Settings of a few float32 steps."""
    few = {"image_size": 64, "tile_size": 48, "max_steps": 2, "batch_size": 2, "log_every": 1}
    few |= {"num_workers": 0, "num_threads": 1, "mixed_precision": "no"}
    few |= {"learning_rate": 1e-3, "detail_learning_rate": 1e-3}
    return {"dataset": "crosses", "base": base, "output_dir": str(output_dir), **few, **settings}


def adapter_bytes(args: TrainArguments) -> bytes:
    return (Path(args.output_dir) / "adapter" / "adapter_model.safetensors").read_bytes()


def last_step(args: TrainArguments) -> int:
    return read_checkpoint(Path(args.output_dir) / FOLDER).note["step"]


class Stopped(Exception):
    """What a hook raises to end a run."""


def stop_at(step: int, *checkpoints: int):
    """A hook that writes checkpoints after these steps, and ends the run after that step."""

    def on_step(trainer) -> None:
        if trainer.step in checkpoints:
            trainer.write_checkpoint()
        if trainer.step == step:
            raise Stopped

    return on_step


@pytest.fixture(scope="session")
def make_rows():
    """`make_rows(count, first=0)`: decoded rows named image0, image1, ..."""
    return make_crosses


@pytest.fixture(scope="session")
def splits():
    return {"train": make_crosses(3), "validation": make_crosses(1, first=3), "test": make_crosses(3, first=4)}


@pytest.fixture(scope="session")
def small_base(tmp_path_factory, stock_sam):
    """The directory of a network around a small SAM, with a detail branch of four channels."""
    directory = tmp_path_factory.mktemp("base") / "small-base"
    form = {"detail_channels": 4, "detail_context": False}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        TopoSamForSegmentation.from_pretrained(stock_sam("small"), **form).save_pretrained(directory)
    return str(directory)


@pytest.fixture
def make_arguments(tmp_path, small_base):
    """`make_arguments(name="run", **settings)`: a few float32 steps on a small base."""

    def make(name: str = "run", base: str = small_base, **settings) -> TrainArguments:
        return TrainArguments(**small_settings(base, tmp_path / name, **settings))

    return make


@pytest.fixture(scope="session")
def finished(tmp_path_factory, small_base, splits):
    """A finished run with all its pictures: its arguments and what `train` returned. Nobody may change it."""
    directory = tmp_path_factory.mktemp("finished") / "run"
    settings = {"max_steps": 8, "score_untrained": True, "evaluate_every": 4, "calibrate": "validation"}
    settings |= {"test_time_flips": True}
    args = TrainArguments(**small_settings(small_base, directory, **settings))
    return args, train(args, splits)


def build_in_float64(args: TrainArguments, spec, classes) -> tuple:
    """A run's network in double precision: what then differs between two runs is no rounding."""
    model, settings = build_network(args, spec, classes)
    model.double().register_forward_pre_hook(_to_float64, with_kwargs=True)
    return model, settings


def _to_float64(_, args: tuple, kwargs: dict) -> tuple:
    return args, {**kwargs, "pixel_values": kwargs["pixel_values"].double()}
