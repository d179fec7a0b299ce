"""Long images, not-a-number, and batches that do not fit: a network that looks at single pixels shows what is cut."""

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.data.windows import normalise
from topolora_hf.inference.predictor import Predictor
from topolora_hf.inference.tiling import Tiles

from .conftest import TILE, photograph


class Pixels(nn.Module):
    """A network that looks at single pixels. What it gives for white, and how many tiles fit, can be chosen."""

    def __init__(self, of_white: float = 3.0, most: int = 99):
        super().__init__()
        self.of_white, self.most, self.batches = of_white, most, []

    def forward(self, pixel_values):
        self.batches.append(len(pixel_values))
        if len(pixel_values) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        logits = pixel_values[:, 1:2]
        return SimpleNamespace(logits=torch.where(logits > 2.4, self.of_white, logits))


PIXELS = AdapterSettings("none", tile_size=TILE, image_size=TILE)


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (7, 900), (900, TILE - 1)])
def test_long_images_are_predicted_as_any_other(size, monkeypatch):
    waves = 60 + 50 * np.sin(np.add.outer(np.arange(size[0]), np.arange(size[1])) / 9)
    image = np.repeat(waves.astype(np.uint8)[..., None], 3, axis=2)
    probability = Predictor(Pixels(), PIXELS, device="cpu").probability(image)
    np.testing.assert_allclose(probability, normalise(image)[1].sigmoid(), atol=1e-6)
    enlarged = Predictor(Pixels(), PIXELS, device="cpu", scale=1.25).probability(image)
    monkeypatch.setattr("topolora_hf.inference.predictor._SECTION_SIDE", 500)
    in_sections = Predictor(Pixels(), PIXELS, device="cpu", scale=1.25).probability(image)
    np.testing.assert_allclose(in_sections, enlarged, atol=0.02)  # half a pixel


class Largest(TorchDispatchMode):
    """Note the largest tensor that is made."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.numbers = max(self.numbers, result.untyped_storage().nbytes() // result.element_size())
        return result


CHANGES = ({}, {"scale": 1.25}, {"scale": 0.8}, {"view": "full"}, {"fov_diameter": 500.0})


def predict_lines(side: int) -> None:
    """Predict lines of so many pixels, wide and high."""
    for change in CHANGES:
        own = {name: value for name, value in change.items() if name != "scale"}
        predictor = Predictor(Pixels(), replace(PIXELS, **own), "cpu", 0, 8, scale=change.get("scale"))
        for shape in ((1, side), (side, 1)):
            assert predictor(np.zeros((*shape, 3), np.uint8)).mask.shape == shape


def test_no_tensor_is_much_larger_than_a_line_of_pixels():
    with Largest() as largest:
        predict_lines(30_000)
    assert 30_000 < largest.numbers <= 3 * 1.25 * 30_000  # all rows of a tile would be 48 times as many


@pytest.mark.slow
def test_a_line_of_20_million_pixels_takes_a_gigabyte():
    code = (
        "import resource, torch; from tests.inference.test_long_images import predict_lines; torch.set_num_threads(1); "
        "predict_lines(20_000_000); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and float(done.stdout) < 1.5, done.stderr


@pytest.mark.parametrize("view", ["tiles", "full"])
def test_not_a_number_is_an_error_for_the_image_that_it_comes_from(view):
    predictor = Predictor(Pixels(of_white=torch.nan), replace(PIXELS, view=view, temperature=2.0), device="cpu")
    dark = np.zeros((60, 70, 3), np.uint8)
    predictor(dark)
    white = dark.copy()
    white[5:30, 5:40] = 255
    with pytest.raises(FloatingPointError, match=r"of a camera: the network gives not-a-number for \d+\.\d% of"):
        predictor(white, "of a camera")


def test_batches_that_do_not_fit_are_halved_unless_they_were_asked_for(monkeypatch):
    monkeypatch.setattr("topolora_hf.inference.predictor.tiles_at_once", lambda *_: 16)
    network, image = Pixels(most=4), photograph(60, 300)
    whole = Predictor(Pixels(), PIXELS, device="cpu").probability(image)
    np.testing.assert_array_equal(Predictor(network, PIXELS, device="cpu").probability(image), whole)
    assert network.batches[:3] == [12, 8, 4]  # a row has 12 tiles
    for asked, most in ((8, 4), (None, 0)):
        with pytest.raises(MemoryError, match="the image: there is not enough memory"):
            Predictor(Pixels(most=most), PIXELS, device="cpu", tile_batch=asked).probability(image)


def test_on_a_gpu_batches_hold_tiles_of_several_rows():
    seen, starts = [], [0, 24, 48]

    def values(corners, sides):
        assert sides == (48, 48)
        seen.append(list(corners))
        return torch.tensor([float(y + x) for y, x in corners], device="meta")[:, None, None, None].expand(
            -1, 1, 48, 48
        )

    list(Tiles(48, 0.5, 7, torch.device("meta")).rows((96, 96), values))
    assert seen == [[(y, x) for y in rows for x in starts] for rows in ([0, 24], [48])]
