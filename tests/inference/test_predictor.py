from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.inferers import sliding_window_inference
from PIL import Image
from torch import nn

from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.adapters.loading import load_adapter
from topolora_hf.data.errors import DataError
from topolora_hf.data.windows import normalise
from topolora_hf.fundus.colours import FovColours, fov_statistics
from topolora_hf.fundus.field_of_view import estimate_field_of_view
from topolora_hf.fundus.normaliser import FieldOfView
from topolora_hf.inference.files import find_images
from topolora_hf.inference.loading import load_network
from topolora_hf.inference.predictor import Prediction, Predictor

TILE = 48


@pytest.fixture
def adapter(make_adapter):
    """An adapter whose predictions are neither all 0 nor all 1, on a base that reads 64 x 64 pixels."""
    return load_adapter(make_adapter(detail_channels=4, image_size=64, tile_size=TILE)[1])


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@torch.no_grad()
def direct(model, image: np.ndarray) -> np.ndarray:
    return model(pixel_values=normalise(image)[None]).logits.sigmoid()[0, 0].numpy()


def test_one_tile_is_one_forward_pass(adapter):
    image = photograph(TILE, TILE)
    probability = Predictor(adapter, device="cpu").probability(image)
    assert probability.dtype == np.float32
    assert 0.05 < probability.std()
    np.testing.assert_allclose(probability, direct(adapter, image), atol=1e-5)


@pytest.mark.parametrize("height, width", [(20, 31), (48, 20), (100, 50), (49, 131)])
def test_images_of_any_size_give_maps_of_their_size(adapter, height, width):
    prediction = Predictor(adapter, device="cpu")(photograph(height, width))
    assert prediction.probability.shape == prediction.mask.shape == prediction.image.shape[:2] == (height, width)
    assert prediction.mask.dtype == bool
    assert 0 <= prediction.probability.min() <= prediction.probability.max() <= 1
    assert prediction.overlay().size == (width, height)


def test_an_image_smaller_than_a_tile_is_padded_with_the_mean_colour(adapter):
    image = photograph(TILE, 30)
    padded = F.pad(normalise(image), (9, 9, 0, 0))[None]
    with torch.no_grad():
        expected = adapter(pixel_values=padded).logits.sigmoid()[0, 0, :, 9:39].numpy()
    np.testing.assert_allclose(Predictor(adapter, device="cpu").probability(image), expected, atol=1e-5)


def test_how_many_tiles_run_at_once_does_not_matter(adapter):
    image = photograph(100, 131)
    maps = [Predictor(adapter, device="cpu", tile_batch=count).probability(image) for count in (1, 3, 64)]
    for other in maps[1:]:
        np.testing.assert_allclose(other, maps[0], atol=1e-5)


def test_far_from_its_edge_a_tile_decides_alone(adapter):
    """Where only one tile reaches, blending changes nothing."""
    image = photograph(TILE, 3 * TILE)
    probability = Predictor(adapter, device="cpu", overlap=0).probability(image)
    for left in (0, TILE, 2 * TILE):
        expected = direct(adapter, image[:, left : left + TILE])
        np.testing.assert_allclose(probability[:, left : left + TILE], expected, atol=1e-5)


def test_view_whole_resizes_the_image_to_a_tile_and_the_logits_back(adapter):
    adapter.adapter_settings.view = "whole"
    image = photograph(60, 97)
    resized = F.interpolate(normalise(image)[None], (TILE, TILE), mode="bilinear", antialias=True)
    with torch.no_grad():
        logits = F.interpolate(adapter(pixel_values=resized).logits, (60, 97), mode="bilinear")
    probability = Predictor(adapter, device="cpu").probability(image)
    np.testing.assert_allclose(probability, logits.sigmoid()[0, 0].numpy(), atol=1e-5)
    tile = photograph(TILE, TILE)
    expected = direct(adapter, tile)
    np.testing.assert_allclose(Predictor(adapter, device="cpu").probability(tile), expected, atol=1e-5)


@pytest.mark.parametrize("view", ["tiles", "whole"])
def test_flips_give_the_mean_probability_of_the_four_mirrorings_of_a_tile(adapter, view):
    adapter.adapter_settings.view = view
    image = photograph(TILE, TILE)
    mirrorings = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
    seen = [direct(adapter, image[::rows, ::columns].copy())[::rows, ::columns] for rows, columns in mirrorings]
    assert np.abs(seen[0] - seen[3]).max() > 0.1
    probability = Predictor(adapter, device="cpu", flips=True).probability(image)
    np.testing.assert_allclose(probability, np.mean(seen, axis=0), atol=1e-5)


def test_scales_give_the_mean_probability_of_the_image_at_each(adapter):
    image, scales = photograph(70, 101), (0.8, 1, 1.25)
    alone = [Predictor(adapter, scale=2 * scale).probability(image) for scale in scales]
    together = Predictor(adapter, scale=2, scales=scales)
    np.testing.assert_allclose(together.probability(image), np.mean(alone, axis=0), atol=1e-6)
    assert np.abs(alone[0] - alone[2]).max() > 0.05
    settings = replace(adapter.adapter_settings, test_time_scales=scales)
    of_settings = Predictor(adapter, settings, scale=2)
    np.testing.assert_array_equal(of_settings.probability(image), together.probability(image))
    np.testing.assert_array_equal(Predictor(adapter, settings, scale=2, scales=[1]).probability(image), alone[1])
    assert adapter.adapter_settings.test_time_scales == (1.0,)


@pytest.mark.parametrize("scales", [[], [0], [1, 11], [float("nan")]])
def test_scales_that_are_none_are_refused(adapter, scales):
    with pytest.raises(ValueError, match="test_time_scales must be one to 16 numbers from 0.1 to 10, got"):
        Predictor(adapter, scales=scales)


def test_a_whole_image_has_one_scale(adapter):
    adapter.adapter_settings.view = "whole"
    with pytest.raises(ValueError, match=r"test_time_scales=\[0.8, 1.25\] are for images cut into tiles"):
        Predictor(adapter, scales=(0.8, 1.25))


def pixelwise(pixel_values: torch.Tensor) -> SimpleNamespace:
    return SimpleNamespace(logits=3 * pixel_values.mean(1, keepdim=True))


@pytest.mark.parametrize("view", ["tiles", "whole"])
def test_flips_change_nothing_where_the_network_does_not_tell_them_apart(view):
    network = nn.Module()
    network.forward = pixelwise
    settings = AdapterSettings(base="none", tile_size=TILE, view=view)
    for size in ((TILE, TILE), (20, 31), (101, 70)):
        plain, flipped = (Predictor(network, settings, device="cpu", flips=flips) for flips in (False, True))
        image = photograph(*size)
        if view == "tiles":
            np.testing.assert_array_equal(flipped.probability(image), plain.probability(image))
        else:  # where the resizing is symmetric but for rounding
            np.testing.assert_allclose(flipped.probability(image), plain.probability(image), atol=1e-5)


def test_flips_are_as_the_settings_say_and_never_make_batches_larger():
    batches = []
    network = nn.Module()
    network.forward = lambda pixel_values: batches.append(len(pixel_values)) or pixelwise(pixel_values)
    settings = AdapterSettings(base="none", tile_size=TILE)
    for in_settings, argument, passes in ((False, None, 1), (True, None, 4), (True, False, 1), (False, True, 4)):
        settings.test_time_flips = in_settings
        batches.clear()
        Predictor(network, settings, device="cpu", tile_batch=2, flips=argument).probability(photograph(60, 200))
        assert max(batches) == 2
        assert sum(batches) == passes * 16  # 2 rows of 8 tiles


@pytest.mark.parametrize("view", ["tiles", "whole"])
def test_the_calibration_scales_the_logits_of_what_comes_out(adapter, view):
    adapter.adapter_settings.view = view
    image = photograph(60, 131)
    plain = Predictor(adapter, device="cpu", flips=True)(image)
    adapter.adapter_settings.temperature = 2.5
    np.testing.assert_array_equal(Predictor(adapter, device="cpu", flips=True)(image).mask, plain.mask)
    adapter.adapter_settings.logit_bias = -0.5
    scaled = Predictor(adapter, device="cpu", flips=True)(image)
    logits = torch.logit(torch.from_numpy(plain.probability).double())
    np.testing.assert_allclose(scaled.probability, (logits / 2.5 - 0.5).sigmoid().numpy(), atol=1e-6)
    assert np.abs(scaled.probability - plain.probability).max() > 0.05


def retina(side: int, diameter: int) -> np.ndarray:
    """A textured bright disc on a dark ground."""
    rows, columns = np.ogrid[:side, :side]
    disc = np.hypot(rows - side / 2, columns - side / 2) < diameter / 2
    return (photograph(side, side) // 4 + 120) * disc[..., None].astype(np.uint8)


def test_a_retina_is_brought_to_the_scale_of_the_training_images_and_back(adapter):
    image, settings = retina(120, 100), replace(adapter.adapter_settings, disc_diameter=50.0)
    by_itself = Predictor(adapter, settings)
    scale = by_itself.scale_of(image)
    assert scale == pytest.approx(0.5, abs=0.02)
    probability = by_itself.probability(image)
    assert probability.shape == (120, 120)
    np.testing.assert_array_equal(probability, Predictor(adapter, scale=scale).probability(image))
    assert not np.allclose(probability, Predictor(adapter).probability(image), atol=1e-3)


def test_tiny_as_it_comes_sees_a_retina_at_the_scale_that_suits_it():
    predictor = Predictor(load_network("tiny"))
    for diameter, scale in ((1074, 0.5), (537, 1)):
        assert predictor.scale_of(retina(1200, diameter)) == pytest.approx(scale, rel=0.02)


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


def test_a_scale_is_refused_where_the_whole_image_becomes_one_tile(adapter):
    with pytest.raises(ValueError, match="scale=2.0 is for images cut into tiles"):
        Predictor(adapter, replace(adapter.adapter_settings, view="whole"), scale=2.0)


@pytest.mark.parametrize(
    ("image", "reference"), [(retina(120, 100), 104.0), (retina(120, 100), None), (photograph(60, 60), 20.0)]
)
def test_a_scale_that_is_nearly_right_or_not_known_is_left_alone(adapter, image, reference):
    settings = replace(adapter.adapter_settings, disc_diameter=reference)
    assert Predictor(adapter, settings).scale_of(image) == 1
    assert Predictor(adapter, settings, scale=2.0).scale_of(image) == 2


@pytest.mark.parametrize("side", [120, 1800])
def test_a_retina_of_foreign_colours_is_given_those_of_the_training_images(side):
    """Another camera: half the red, nearly no blue, all channels flatter."""
    image = retina(side, round(0.8 * side))
    view = estimate_field_of_view(image)
    foreign = (image * [0.5, 0.8, 0.1]).astype(np.uint8)
    settings = AdapterSettings(base="none", tile_size=TILE if side < 1000 else 600)
    settings.disc_colours = FovColours.of_statistics([fov_statistics(image, view)])
    expected = Predictor(Brightness(), settings, device="cpu")(image).probability
    inside = FieldOfView(image).inside()
    error = {}
    for match in (True, False):
        found = Predictor(Brightness(), settings, device="cpu", match_colours=match)(foreign).probability
        error[match] = np.abs(found - expected)[inside].mean()
    assert error[True] < 0.03 < 0.3 < error[False]


def test_a_retina_of_familiar_colours_and_what_is_no_retina_stay_as_they_are(adapter):
    image = retina(120, 100)
    colours = FovColours.of_statistics([fov_statistics(image, estimate_field_of_view(image))])
    settings = replace(adapter.adapter_settings, disc_colours=colours)
    for other in ((image * 0.9).astype(np.uint8), photograph(60, 60) // 3):
        plain = Predictor(adapter, settings, match_colours=False).probability(other)
        np.testing.assert_array_equal(Predictor(adapter, settings).probability(other), plain)


@pytest.mark.parametrize("side", [120, 1800])
def test_nothing_is_marked_on_the_ground_around_a_retina(side):
    """The network marks what is dark: all of the ground."""
    image = retina(side, round(0.8 * side))
    network = nn.Module()
    network.forward = lambda pixel_values: SimpleNamespace(logits=-5 * pixel_values.mean(1, keepdim=True))
    settings = AdapterSettings(base="none", tile_size=TILE if side < 1000 else 600)
    rows, columns = np.ogrid[:side, :side]
    from_centre = np.hypot(rows - side / 2, columns - side / 2) / side
    inside, outside = from_centre < 0.37, from_centre > 0.405
    everywhere = Predictor(network, settings, device="cpu", within_fov=False)(image)
    assert everywhere.mask[outside].all()
    of_no_retinas = Predictor(network, settings, device="cpu")(image)
    np.testing.assert_array_equal(of_no_retinas.probability, everywhere.probability)
    settings.disc_diameter = float(round(0.8 * side))
    found = Predictor(network, settings, device="cpu")(image)
    assert not found.probability[outside].any()
    np.testing.assert_array_equal(found.probability[inside], everywhere.probability[inside])


def test_an_image_without_a_disc_is_marked_to_its_edges(adapter):
    image = photograph(60, 97)
    everywhere, found = (Predictor(adapter, within_fov=value)(image).probability for value in (False, True))
    np.testing.assert_array_equal(found, everywhere)


def test_a_centreline_is_drawn_broad_enough_to_be_seen():
    for side, breadth in ((400, 1), (1000, 3), (3000, 7)):
        probability = np.zeros((side, side), np.float32)
        probability[100:105] = 1
        prediction = Prediction(np.zeros((side, side, 3), np.uint8), probability, 0.5)
        assert (np.asarray(prediction.overlay(centreline=True)).any(axis=2)[:, side // 2]).sum() == breadth


def test_a_file_a_pil_image_and_an_array_are_the_same(adapter, tmp_path):
    image = photograph(50, 60)
    Image.fromarray(image).save(tmp_path / "photo.png")
    predictor = Predictor(adapter, device="cpu")
    expected = predictor(image).probability
    for source in (tmp_path / "photo.png", str(tmp_path / "photo.png"), Image.fromarray(image)):
        np.testing.assert_array_equal(predictor(source).probability, expected)


@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16", "1", "P"])
def test_an_opened_image_of_any_mode_is_read_as_its_file(adapter, tmp_path, mode):
    colours = Image.fromarray(photograph(20, 30))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(colours)[..., 0].astype(np.uint16) * 200)
    else:
        image = colours.convert(mode)
    if mode == "RGBA":
        image.putalpha(colours.convert("L"))
    image.save(tmp_path / "photo.png")
    predictor = Predictor(adapter, device="cpu")
    from_file, from_image = predictor(tmp_path / "photo.png"), predictor(image)
    assert from_file.image.shape == (20, 30, 3) and from_file.image.std() > 10
    np.testing.assert_array_equal(from_image.image, from_file.image)


def test_the_model_is_put_in_evaluation_mode(adapter):
    predictor = Predictor(adapter.train(), device="cpu")
    predictor.probability(photograph(TILE, TILE))
    assert not adapter.training
    assert torch.is_grad_enabled()


def test_training_goes_on_after_a_prediction(make_adapter):
    """The interpolated position embedding that a prediction caches may be used with gradients afterwards."""
    model = load_adapter(make_adapter(detail_channels=4)[1], is_trainable=True)
    Predictor(model, device="cpu").probability(photograph(TILE, TILE))
    model.train()(pixel_values=torch.rand(1, 3, TILE, TILE)).logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)


def test_a_mask_file_holds_0_and_255_and_a_probability_file_16_bits(adapter, tmp_path):
    prediction = Predictor(adapter, device="cpu")(photograph(50, 60))
    prediction.save_mask(tmp_path / "mask.png")
    prediction.save_probability(tmp_path / "probability.png")
    mask = np.asarray(Image.open(tmp_path / "mask.png"))
    np.testing.assert_array_equal(mask, 255 * prediction.mask.astype(np.uint8))
    stored = np.asarray(Image.open(tmp_path / "probability.png"))
    np.testing.assert_allclose(stored / 65535, prediction.probability, atol=1e-5)


@pytest.mark.parametrize(
    "image, message",
    [
        (np.zeros((4, 5), np.uint8), r"got uint8 \(4, 5\)"),
        (np.zeros((4, 5, 4), np.uint8), r"\(4, 5, 4\)"),
        (np.zeros((4, 5, 3), np.float32), "got float32"),
    ],
)
def test_an_array_of_another_kind_is_refused(adapter, image, message):
    with pytest.raises(ValueError, match=message):
        Predictor(adapter, device="cpu")(image)


def test_an_unreadable_file_is_named(adapter, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="broken.png"):
        Predictor(adapter, device="cpu")(tmp_path / "broken.png")


def test_settings_must_be_there_and_in_range(adapter):
    with pytest.raises(ValueError, match="no adapter_settings"):
        Predictor(adapter.get_base_model(), device="cpu")
    settings = AdapterSettings(base="none")
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        Predictor(adapter, replace(settings, temperature=0), device="cpu")
    for wrong in ({"overlap": 1.0}, {"overlap": -0.1}, {"tile_batch": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}|tile batch"):
            Predictor(adapter, settings, device="cpu", **wrong)


def test_find_images_takes_files_folders_and_globs_each_image_once(tmp_path):
    for name in ("b.png", "a.JPG", "notes.txt", "._a.JPG", "deep/c.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()

    def names(*patterns):
        return [path.relative_to(tmp_path).as_posix() for path in find_images([tmp_path / p for p in patterns])]

    assert names(".") == ["a.JPG", "b.png"]
    assert names("*.png", ".", "b.png") == ["b.png", "a.JPG"]
    assert names("**/*") == ["a.JPG", "b.png", "deep/c.tif"]
    for nothing in ("absent.png", "*.bmp", "folder.png"):
        with pytest.raises(DataError, match=f"no images at .*{nothing.replace('*', '.')}"):
            names(nothing)


def test_tiles_are_blended_as_monai_blends_them_but_for_the_floor_of_its_weights(adapter):
    image = photograph(150, 211)
    predictor = Predictor(adapter, tile_batch=3)
    tile = predictor.settings.tile_size
    expected = sliding_window_inference(
        predictor._pixel_values(image), (tile, tile), 4, predictor._tile_probability, overlap=0.5, mode="gaussian"
    )
    differences = np.abs(predictor.probability(image) - expected[0, 0].numpy())
    inside = differences[tile // 4 : -tile // 4, tile // 4 : -tile // 4]
    assert inside.max() < 5e-3 and np.median(inside) < 1e-4


def test_no_seams_where_tiles_meet():
    settings = AdapterSettings(base="none", tile_size=64)
    predictor = Predictor(OneValueATile(), settings)
    probability = predictor.probability(photograph(64 * 5, 64 * 5))
    jumps = np.abs(np.diff(probability, axis=1)).max(axis=0)
    borders = np.arange(32, 64 * 5 - 1, 32) - 1
    assert 0 < jumps.max() and jumps[borders].max() <= np.delete(jumps, borders).max()


class OneValueATile(torch.nn.Module):
    """Neighbouring tiles disagree on all that they share: every jump is the blending's."""

    def forward(self, pixel_values):
        logits = 20 * pixel_values.mean(dim=(1, 2, 3), keepdim=True)
        return SimpleNamespace(logits=logits.expand(-1, 1, *pixel_values.shape[-2:]))
