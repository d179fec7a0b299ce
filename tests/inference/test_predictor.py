"""From an image to a probability map: tiles, the full image, test-time averages, calibration, and what is refused."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from topolora_hf.adapter_format.errors import AdapterMismatchError
from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.adapters.creation import save_adapter
from topolora_hf.adapters.loading import load_adapter
from topolora_hf.data.errors import DataError
from topolora_hf.data.intensity import IntensityScaling
from topolora_hf.data.windows import normalise
from topolora_hf.inference.loading import load_network
from topolora_hf.inference.prediction import Prediction
from topolora_hf.inference.predictor import Predictor

from .conftest import TILE, photograph


@pytest.fixture
def predictor(adapter, settings):
    """`predictor(**changes)`: on the CPU; changes are of the settings, or arguments of `Predictor`."""
    names = settings.__dataclass_fields__

    def make(**changes) -> Predictor:
        own = {name: value for name, value in changes.items() if name in names and name != "threshold"}
        return Predictor(
            adapter,
            replace(settings, **own),
            device="cpu",
            **{key: value for key, value in changes.items() if key not in own},
        )

    return make


@torch.no_grad()
def direct(model, image: np.ndarray) -> np.ndarray:
    return model(pixel_values=normalise(image)[None]).logits.sigmoid()[0, 0].numpy()


def test_one_tile_is_one_forward_pass(adapter, predictor):
    image = photograph(TILE, TILE)
    probability = predictor().probability(image)
    assert probability.dtype == np.float32 and probability.std() > 0.05
    np.testing.assert_allclose(probability, direct(adapter, image), atol=1e-5)


@pytest.mark.parametrize("height, width", [(20, 31), (49, 131)])
def test_images_of_any_size_give_maps_of_their_size(predictor, height, width):
    prediction = predictor()(photograph(height, width))
    assert prediction.probability.shape == prediction.mask.shape == prediction.image.shape[:2] == (height, width)
    assert prediction.mask.dtype == bool and prediction.warnings == ()
    assert 0 <= prediction.probability.min() <= prediction.probability.max() <= 1
    assert prediction.overlay().size == (width, height)


@pytest.mark.parametrize("width", [30, 7])
def test_an_image_smaller_than_a_tile_is_mirrored_around_itself(adapter, predictor, width):
    image, left = photograph(TILE, width), (TILE - width) // 2
    padded = np.pad(image, ((0, 0), (left, TILE - width - left), (0, 0)), mode="symmetric")
    with torch.no_grad():
        expected = adapter(pixel_values=normalise(padded)[None]).logits.sigmoid()[0, 0, :, left : left + width].numpy()
    np.testing.assert_allclose(predictor().probability(image), expected, atol=1e-5)


def test_a_low_strip_of_bare_ground_is_no_line():
    """With a flat colour around it, `tiny` marked nine tenths of such a strip, and all of a black square."""
    tiny = Predictor(load_network("topolora_hf/tiny"), device="cpu")
    ground = np.random.default_rng(0).normal(190, 6, (24, 300, 3)).clip(0, 255).astype(np.uint8)
    assert tiny(ground).mask.mean() < 0.05
    assert not tiny(np.zeros((50, 50, 3), np.uint8)).mask.any()


def test_how_many_tiles_run_at_once_does_not_matter(predictor):
    maps = [predictor(tile_batch=count).probability(photograph(100, 131)) for count in (1, 3)]
    np.testing.assert_allclose(maps[1], maps[0], atol=1e-5)


def test_where_only_one_tile_reaches_blending_changes_nothing(adapter, predictor):
    image = photograph(TILE, 3 * TILE)
    probability = predictor(overlap=0).probability(image)
    for left in (0, TILE, 2 * TILE):
        expected = direct(adapter, image[:, left : left + TILE])
        np.testing.assert_allclose(probability[:, left : left + TILE], expected, atol=1e-5)


def test_tiles_are_blended_as_monai_blends_them_but_for_the_floor_of_its_weights(predictor):
    inferers = pytest.importorskip("monai.inferers")
    image, ours = photograph(150, 211), predictor(tile_batch=3)
    with torch.no_grad():
        expected = inferers.sliding_window_inference(
            normalise(image)[None], (TILE, TILE), 4, ours._tile_probabilities, overlap=0.5, mode="gaussian"
        )
    differences = np.abs(ours.probability(image) - expected[0, 0].numpy())
    inside = differences[TILE // 4 : -TILE // 4, TILE // 4 : -TILE // 4]
    assert inside.max() < 1e-2 and np.median(inside) < 2e-4


class OneValueATile(nn.Module):
    """Neighbouring tiles disagree on all that they share: every jump is the blending's."""

    def forward(self, pixel_values):
        logits = 20 * pixel_values.mean(dim=(1, 2, 3), keepdim=True)
        return SimpleNamespace(logits=logits.expand(-1, 1, *pixel_values.shape[-2:]))


def test_no_seams_where_tiles_meet():
    predictor = Predictor(OneValueATile(), AdapterSettings(base="none", tile_size=64), device="cpu")
    jumps = np.abs(np.diff(predictor.probability(photograph(64 * 5, 64 * 5)), axis=1)).max(axis=0)
    borders = np.arange(32, 64 * 5 - 1, 32) - 1
    assert 0 < jumps.max() and jumps[borders].max() <= np.delete(jumps, borders).max()


def test_view_full_resizes_the_image_to_a_tile_and_the_logits_back(adapter, predictor):
    image = photograph(60, 97)
    resized = F.interpolate(normalise(image)[None], (TILE, TILE), mode="bilinear", antialias=True)
    with torch.no_grad():
        logits = F.interpolate(adapter(pixel_values=resized).logits, (60, 97), mode="bilinear")
    np.testing.assert_allclose(predictor(view="full").probability(image), logits.sigmoid()[0, 0].numpy(), atol=1e-5)


@pytest.mark.parametrize("view", ["tiles", "full"])
def test_flips_give_the_mean_probability_of_the_four_mirrorings_of_a_tile(adapter, predictor, view):
    image = photograph(TILE, TILE)
    mirrorings = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
    seen = [direct(adapter, image[::rows, ::columns].copy())[::rows, ::columns] for rows, columns in mirrorings]
    assert np.abs(seen[0] - seen[3]).max() > 0.1
    probability = predictor(view=view, flips=True).probability(image)
    np.testing.assert_allclose(probability, np.mean(seen, axis=0), atol=1e-5)
    np.testing.assert_array_equal(predictor(view=view, test_time_flips=True).probability(image), probability)


def test_flips_never_make_batches_larger():
    batches = []
    network = nn.Module()
    network.forward = lambda pixel_values: batches.append(len(pixel_values)) or OneValueATile()(pixel_values)
    settings = AdapterSettings(base="none", tile_size=TILE)
    for argument, passes in ((None, 1), (True, 4)):
        batches.clear()
        Predictor(network, settings, device="cpu", tile_batch=2, flips=argument).probability(photograph(60, 200))
        assert max(batches) == 2 and sum(batches) == passes * 16  # 2 rows of 8 tiles


def test_scales_give_the_mean_probability_of_the_image_at_each(predictor):
    image, scales = photograph(40, 60), (0.8, 1, 1.25)
    alone = [predictor(scale=2 * scale).probability(image) for scale in scales]
    together = predictor(scale=2, scales=scales).probability(image)
    np.testing.assert_allclose(together, np.mean(alone, axis=0), atol=1e-6)
    assert np.abs(alone[0] - alone[2]).max() > 0.05
    np.testing.assert_array_equal(predictor(scale=2, test_time_scales=scales).probability(image), together)
    np.testing.assert_array_equal(predictor(scale=2, test_time_scales=scales, scales=[1]).probability(image), alone[1])


class Brightness(nn.Module):
    """A network that looks at single pixels."""

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=3 * pixel_values.mean(1, keepdim=True))


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_an_image_is_enlarged_before_and_its_map_brought_back_after(scale):
    image, settings = photograph(120, 90), AdapterSettings("base", tile_size=TILE)
    scaled = (round(120 * scale), round(90 * scale))
    seen = F.interpolate(normalise(image)[None], scaled, mode="bilinear", antialias=scale < 1)
    expected = F.interpolate(
        (3 * seen.mean(1, keepdim=True)).sigmoid(), (120, 90), mode="bilinear", antialias=scale > 1
    )
    probability = Predictor(Brightness(), settings, scale=scale, device="cpu").probability(image)
    np.testing.assert_allclose(probability, expected[0, 0], atol=1e-5)


@pytest.mark.parametrize("view", ["tiles", "full"])
def test_the_calibration_scales_the_logits_of_what_comes_out(predictor, view):
    image = photograph(60, 70)
    plain = predictor(view=view, flips=True)(image)
    np.testing.assert_array_equal(predictor(view=view, flips=True, temperature=2.5)(image).mask, plain.mask)
    scaled = predictor(view=view, flips=True, temperature=2.5, logit_bias=-0.5)(image)
    logits = torch.logit(torch.from_numpy(plain.probability).double())
    np.testing.assert_allclose(scaled.probability, (logits / 2.5 - 0.5).sigmoid().numpy(), atol=1e-6)
    assert np.abs(scaled.probability - plain.probability).max() > 0.05


def test_the_threshold_is_the_one_given_or_the_adapters(predictor, settings):
    image = photograph(TILE, TILE)
    assert predictor()(image).thresholds == (settings.threshold,) == (0.5,)
    prediction = predictor(threshold=0.2)(image)
    assert prediction.thresholds == (0.2,) and prediction.mask.mean() == (prediction.probability >= 0.2).mean()


def test_after_set_adapter_the_settings_are_those_of_the_other_adapter(adapter, settings, tmp_path):
    for name, own in (("strict", {"threshold": 0.9}), ("full", {"view": "full", "threshold": 0.3})):
        save_adapter(adapter, replace(settings, **own), tmp_path / name)
    model = load_adapter(tmp_path / "strict", adapter_name="strict")
    model.load_adapter(tmp_path / "full", adapter_name="full")
    predictor, image = Predictor(model, device="cpu"), photograph(60, 97)
    assert predictor(image).thresholds == (0.9,)
    model.set_adapter("full")
    prediction = predictor(image)
    expected = Predictor(adapter, replace(settings, view="full"), device="cpu").probability(image)
    assert prediction.thresholds == (0.3,)
    np.testing.assert_allclose(prediction.probability, expected, atol=1e-5)


@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16", "P"])
def test_an_opened_image_of_any_mode_is_read_as_its_file(predictor, tmp_path, mode):
    colours = Image.fromarray(photograph(20, 30))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(colours)[..., 0].astype(np.uint16) * 200)
    else:
        image = colours.convert(mode)
    image.save(tmp_path / "photo.png")
    from_file, from_image = predictor()(tmp_path / "photo.png"), predictor()(image)
    assert from_file.image.shape == (20, 30, 3) and from_file.image.std() > 10
    np.testing.assert_array_equal(from_image.image, from_file.image)
    np.testing.assert_array_equal(predictor()(from_file.image).probability, from_file.probability)


def test_an_array_is_a_row_of_a_data_set_whose_intensity_was_scaled_already(predictor):
    image, scaling = photograph(TILE, TILE) // 8, IntensityScaling(0, 31, of_8_bits=True)
    own = predictor(intensity=scaling)
    np.testing.assert_array_equal(own(image).image, image)
    np.testing.assert_array_equal(own(Image.fromarray(image)).image, scaling(image))


def test_numbers_that_are_not_finite_in_an_image_give_finite_probabilities(predictor, tmp_path):
    array = np.random.default_rng(0).random((TILE, TILE)).astype(np.float32)
    array[10, 20:22] = np.nan, np.inf
    np.save(tmp_path / "a.npy", array)
    assert np.isfinite(predictor()(tmp_path / "a.npy").probability).all()


def test_prediction_is_in_evaluation_mode_and_training_goes_on_after(adapter, predictor):
    """The interpolated position embedding that a prediction caches may be used with gradients afterwards."""
    adapter.train()
    predictor().probability(photograph(TILE, TILE))
    assert not adapter.training and torch.is_grad_enabled()
    try:
        adapter.train()(pixel_values=torch.rand(1, 3, TILE, TILE)).logits.sum().backward()
        assert all(parameter.grad is not None for parameter in adapter.parameters() if parameter.requires_grad)
    finally:
        adapter.zero_grad()
        adapter.eval()


def test_a_mask_file_holds_0_and_255_and_a_probability_file_16_bits(predictor, tmp_path):
    prediction = predictor()(photograph(50, 60))
    prediction.save_mask(tmp_path / "mask.png")
    prediction.save_probability(tmp_path / "probability.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "mask.png")), 255 * prediction.mask.astype(np.uint8))
    stored = np.asarray(Image.open(tmp_path / "probability.png"))
    np.testing.assert_allclose(stored / 65535, prediction.probability, atol=1e-5)


def test_a_centreline_is_drawn_wide_enough_to_be_seen():
    for side, width in ((400, 1), (1000, 3), (3000, 7)):
        probability = np.zeros((60, side), np.float32)
        probability[20:25] = 1
        prediction = Prediction(np.zeros((60, side, 3), np.uint8), probability[None], (0.5,))
        assert (np.asarray(prediction.overlay(centreline=True)).any(axis=2)[:, side // 2]).sum() == width


@pytest.mark.parametrize(
    "image, message",
    [
        (np.zeros((4, 5), np.uint8), r"got uint8 \(4, 5\)"),
        (np.zeros((4, 5, 4), np.uint8), r"\(4, 5, 4\)"),
        (np.zeros((4, 5, 3), np.float32), "got float32"),
    ],
)
def test_an_array_of_another_kind_is_refused(predictor, image, message):
    with pytest.raises(ValueError, match=message):
        predictor()(image)


def test_an_unreadable_file_is_named(predictor, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="broken.png"):
        predictor()(tmp_path / "broken.png")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"overlap": 1.0}, r"overlap must be in \[0, 1\), got 1.0"),
        ({"tile_batch": 0}, "tile_batch must be positive, got 0"),
        ({"threshold": 1.5}, r"threshold must be in \[0, 1\], got 1.5"),
        ({"scale": 0}, "scale must be positive and finite, got 0"),
        ({"scales": []}, "test_time_scales must be one to 16 numbers from 0.1 to 10, got"),
        ({"scales": [1, 11]}, "test_time_scales must be one to 16 numbers from 0.1 to 10, got"),
        ({"view": "full", "scale": 2.0}, "scale=2.0 is for images cut into tiles"),
        ({"view": "full", "scales": (0.8, 1.25)}, r"test_time_scales=\[0.8, 1.25\] are for images cut into tiles"),
        ({"temperature": 0}, "temperature must be a positive number, or one for each class, got 0"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(predictor, changes, message):
    with pytest.raises(ValueError, match=message):
        predictor(**changes)


def test_a_network_without_settings_is_refused():
    with pytest.raises(ValueError, match="no adapter_settings"):
        Predictor(OneValueATile())


class Channels(nn.Module):
    """A network of K maps that looks at single pixels: map k is the image's channel k."""

    def __init__(self, maps: int = 3):
        super().__init__()
        self.maps = maps

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=2 * pixel_values[:, : self.maps])


def of_classes(*labels: str, **changes) -> AdapterSettings:
    return AdapterSettings("none", tile_size=TILE, image_size=TILE, labels=labels, **changes)


@pytest.mark.parametrize("changes", [{}, {"view": "full"}, {"test_time_flips": True}, {"test_time_scales": (1.0, 0.8)}])
def test_each_map_is_blended_as_it_would_be_alone(changes):
    image = photograph(60, 131)
    together = Predictor(Channels(), of_classes("a", "b", "c", **changes), device="cpu")(image)
    assert together.probabilities.shape == (3, 60, 131) and together.probabilities.dtype == np.float32
    for place in range(3):
        network = nn.Module()
        network.forward = lambda pixel_values, k=place: SimpleNamespace(logits=2 * pixel_values[:, k : k + 1])
        alone = Predictor(network, of_classes("a", **changes), device="cpu")(image)
        np.testing.assert_allclose(together.probabilities[place], alone.probabilities[0], atol=1e-6)


def test_exclusive_maps_are_a_softmax_with_a_background_of_logit_0():
    image = photograph(TILE, TILE)
    found = Predictor(Channels(), of_classes("a", "b", "c", exclusive=True), device="cpu")(image)
    logits = torch.cat([torch.zeros(1, TILE, TILE), 2 * normalise(image)])
    np.testing.assert_allclose(found.probabilities, logits.softmax(0)[1:].numpy(), atol=1e-6)
    np.testing.assert_allclose(found.probability, 1 - logits.softmax(0)[0].numpy(), atol=1e-6)


@pytest.mark.parametrize("labels", [("a",), ("a", "b", "c", "d")])
def test_settings_with_other_classes_than_the_network_has_are_refused(labels):
    with pytest.raises(
        AdapterMismatchError, match=f"has num_labels=3 maps, the settings name {len(labels)} classes: a"
    ):
        Predictor(Channels(), of_classes(*labels), device="cpu")(photograph(20, 20))
