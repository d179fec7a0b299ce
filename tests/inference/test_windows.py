"""Without SAM each pixel is computed once, and comes out as in one pass over the whole image."""

import numpy as np
import pytest
import torch

from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.geo.raster import opened_by_rows
from topolora_hf.inference import tiling
from topolora_hf.inference.predictor import Predictor
from topolora_hf.inference.tiling import Windows
from topolora_hf.network.detail_branch import STRIDE

TILE = 48


@pytest.fixture(params=[True, False], ids=["context", "no context"])
def predictor(request, small_network, off_its_start):
    network = small_network(use_sam=False, detail_channels=4, detail_context=request.param)
    settings = AdapterSettings.of_network(network)
    return Predictor(off_its_start(network, 0.1), settings, device="cpu")


def image_of(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("size", [(130, 470), (900, 260), (30, 470)])
def test_windows_give_the_whole_image_in_one_pass(predictor, monkeypatch, size):
    image = image_of(*size)
    whole = predictor(image).probabilities
    sides = []
    predictor.model.register_forward_pre_hook(
        lambda _, args, kwargs: sides.append(kwargs["pixel_values"].shape[-2:]), with_kwargs=True
    )
    smallest = 2 * predictor._cut(1).margin + 40
    monkeypatch.setattr(tiling, "_WINDOW", smallest)
    np.testing.assert_allclose(predictor(image).probabilities, whole, atol=1e-5)
    assert len(sides) > 1 and all(height * width <= (smallest + STRIDE) ** 2 for height, width in sides)
    assert whole.std() > 0.01


def test_a_logit_depends_on_nothing_beyond_the_receptive_radius(predictor):
    network, radius = predictor.model, predictor.model.receptive_radius
    side = 2 * radius + 80
    pixels = torch.randn(1, 3, side - side % 8, side - side % 8, generator=torch.Generator().manual_seed(0))
    far = 0
    for y, x in ((side // 2, side // 2), (side // 2 + 3, side // 2 + 5)):
        with torch.inference_mode():
            changed = pixels.clone()
            changed[..., y, x] += 100
            rows, columns = torch.where((network(changed).logits - network(pixels).logits)[0, 0] != 0)
        far = max(far, *((places - place).abs().max().item() for places, place in ((rows, y), (columns, x))))
    assert 0.7 * radius < far <= radius


def test_an_image_smaller_than_a_tile_lies_in_the_middle_of_one(predictor):
    image = image_of(20, 31)
    as_a_tile = Predictor(predictor.model, predictor.settings, device="cpu", overlap=0.5)
    np.testing.assert_allclose(predictor(image).probabilities, as_a_tile(image).probabilities, atol=1e-6)


def test_an_overlap_asks_for_tiles(predictor):
    sides = set()
    predictor.model.register_forward_pre_hook(
        lambda _, args, kwargs: sides.add(tuple(kwargs["pixel_values"].shape[-2:])), with_kwargs=True
    )
    Predictor(predictor.model, predictor.settings, device="cpu", overlap=0.25)(image_of(100, 90))
    assert sides == {(TILE, TILE)}


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_rows_of_windows_are_those_of_the_whole_image(predictor, monkeypatch, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    monkeypatch.setattr(tiling, "_WINDOW", 2 * predictor._cut(1).margin + 64)
    image = image_of(700, 300)
    with rasterio.open(tmp_path / "a.tif", "w", "GTiff", 300, 700, 3, dtype="uint8") as file:
        file.write(image.transpose(2, 0, 1))
    expected = predictor(image).probabilities
    starts = predictor.row_starts((700, 300))
    assert len(starts) > 1
    with opened_by_rows(tmp_path / "a.tif") as raster:
        for start in starts:
            parts = list(predictor.by_rows(raster, start))
            assert [top for top, _ in parts] == starts[starts.index(start) :]
            found = np.concatenate([part.probabilities for _, part in parts], axis=1)
            np.testing.assert_array_equal(found, expected[:, start:])


def test_cells_cover_every_canvas_once_and_windows_are_of_whole_strides():
    rng = np.random.default_rng(0)
    for _ in range(200):
        cut = Windows(int(rng.integers(4, 80)) * 4, int(rng.integers(1, 200)), 8)
        for begin, cells in cut._cells(size := tuple(int(side) for side in rng.integers(1, 9000, 2))):
            assert begin <= 0 == cells[0][0] and all(a < b for a, b in cells)
            assert all(left[1] == right[0] and left[1] % 8 == 0 for left, right in zip(cells, cells[1:], strict=False))
        ends = [(begin, cells[-1][1]) for begin, cells in cut._cells(size)]
        assert all(end % 8 == 0 and begin + end >= side for (begin, end), side in zip(ends, size, strict=True))


def test_other_sides_need_a_network_without_sam(small_network):
    network = small_network(use_sam=False, detail_channels=4)
    assert network(torch.zeros(2, 3, 56, 64)).logits.shape == (2, 1, 56, 64)
    with pytest.raises(ValueError, match="tiles of 48x48 pixels or, without SAM, of sides that 8 divides, got 56x60"):
        network(torch.zeros(1, 3, 56, 60))
    with pytest.raises(ValueError, match="takes tiles of 48x48 pixels, got 56x64"):
        small_network()(torch.zeros(1, 3, 56, 64))
    assert small_network().receptive_radius is None
