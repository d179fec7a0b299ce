"""`topolora train` from a folder to an adapter that predicts; and what stops it before anything is trained."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from .conftest import save

FEW = "--base tiny-random --image_size 32 --tile_size 48 --max_steps 1 --batch_size 1 --num_workers 0".split()
FEW += "--num_threads 1 --mixed_precision no --output_dir run".split()


def test_an_adapter_of_a_folder_is_trained_scored_and_used(topolora, folder, no_pictures):
    done = topolora("train", "--dataset", folder, *FEW)
    assert done.status == 0, done.err
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert (metrics["dataset"], metrics["split"], metrics["n"]) == ("data", "test", 1)
    assert re.search(rf"^dice +{metrics['dice']:.4f}", done.out, re.MULTILINE)
    assert "next      topolora predict --adapter run/adapter" in done.out
    stored = json.loads(Path("run/adapter/topolora_config.json").read_text())
    assert stored["foreground_range"] == [0.05, 0.05]  # 3 rows of 60
    mask = os.umask(0)
    os.umask(mask)
    assert {path.stat().st_mode & 0o777 for path in Path("run/adapter").iterdir()} == {0o666 & ~mask}

    assert topolora("score", "--adapter", "run/adapter", "--dataset", folder).status == 0
    assert json.loads(Path("scores/metrics.json").read_text())["dice"] == pytest.approx(metrics["dice"], abs=1e-6)
    done = topolora("predict", "--adapter", "run/adapter", "--images", folder / "images")
    assert done.status == 0 and len(list(Path("predictions").glob("*_mask.png"))) == 8


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (("--dataset", "retina"), ["error: unknown data set 'retina'", "drive", "synthetic", "folder"]),
        (("--dataset", "drive", "--data_dir", "data"), ["1st_manual", "data"]),
        (("--dataset", "empty"), ["empty"]),
        (("--dataset", "only"), ["no train split"]),
        (("--dataset", "data", "--base", "facebook/sam-vit-base"), ["facebook/sam-vit-base", "--base tiny"]),
    ],
)
def test_what_cannot_be_trained_on_is_named(topolora, folder, words, messages):
    Path("empty").mkdir()
    save(Path("only/test/images/a.png"), np.zeros((9, 9), np.uint8))
    save(Path("only/test/masks/a.png"), np.eye(9, dtype=np.uint8) * 255)
    done = topolora("train", *FEW, *words)
    assert done.status in (1, 2) and all(text in done.err for text in messages), done.err


def test_masks_without_foreground_are_an_error(topolora, folder):
    for path in (folder / "masks").iterdir():
        save(path, np.zeros((60, 70), np.uint8))
    done = topolora("train", "--dataset", folder, *FEW)
    assert done.status == 1 and "foreground" in done.err and "masks/0.png" in done.err
