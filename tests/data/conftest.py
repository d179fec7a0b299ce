"""Small image files in the layouts of the data sets, made on the spot; caches stay inside the test's folder."""

import datasets
import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def own_caches(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("TOPOLORA_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))


def draw(kind, seed=0, size=(24, 20)):
    """Arrays: an `image` of noise, a `mask` of one line whose row is `seed % 10 + 2`, a `view` without a margin."""
    if kind == "image":
        return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    array = np.zeros(size, np.uint8)
    if kind == "mask":
        array[seed % 10 + 2, 2:18] = 255
    else:
        array[1:-1, 1:-1] = 255
    return array


@pytest.fixture
def save():
    """`save(path, kind="image", seed=0, size=(24, 20))`: one file in the format of its suffix."""

    def write(path, kind="image", seed=0, size=(24, 20)):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(kind, seed, size)).save(path)
        return path

    return write


@pytest.fixture
def make_pairs(save):
    """`make_pairs(root, count, image, mask, view=None, first=0)`: files named by patterns of the number `n`."""

    def make(root, count, image="images/{n:03d}.png", mask="masks/{n:03d}.png", view=None, first=0):
        for number in range(first, first + count):
            save(root / image.format(n=number), "image", number)
            save(root / mask.format(n=number), "mask", number)
            if view:
                save(root / view.format(n=number), "view", number)
        return root

    return make
