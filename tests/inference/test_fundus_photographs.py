"""What the predictor does with fundus photographs, and where it says that a mask may be wrong."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.fundus.colours import FovColours, fov_statistics
from topolora_hf.fundus.field_of_view import estimate_field_of_view
from topolora_hf.fundus.normaliser import FieldOfView, FundusNormaliser
from topolora_hf.inference.loading import load_network
from topolora_hf.inference.predictor import Predictor
from topolora_hf.training.scoring import score_rows

from .conftest import TILE, photograph


class Brightness(nn.Module):
    """A network that looks at single pixels: bright ones are foreground, or dark ones."""

    def __init__(self, gain: float = 3):
        super().__init__()
        self.gain = gain

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.gain * pixel_values.mean(1, keepdim=True))


def retina(side: int, diameter: int) -> np.ndarray:
    """A textured bright field of view on a dark ground."""
    rows, columns = np.ogrid[:side, :side]
    inside = np.hypot(rows - side / 2, columns - side / 2) < diameter / 2
    return (photograph(side, side) // 4 + 120) * inside[..., None].astype(np.uint8)


def colours_of(image: np.ndarray) -> FovColours:
    return FovColours.of_statistics([fov_statistics(image, estimate_field_of_view(image))])


def settings(**changes) -> AdapterSettings:
    return AdapterSettings(base="none", tile_size=TILE, **changes)


@pytest.mark.parametrize(
    ("diameter", "scales", "as_by_hand"),
    [(60.0, None, (0.8, 1.25)), (50.0, None, (1.0, 1.5, 2.0)), (50.0, (1.0,), (1.0,))],
)
def test_a_photograph_is_brought_to_the_scale_of_the_training_images_and_back(adapter, diameter, scales, as_by_hand):
    """One much finer than those is averaged over larger scales, too, unless scales are given."""
    own = AdapterSettings.of_network(adapter.get_base_model())
    image, own = retina(120, 100), replace(own, fov_diameter=diameter, test_time_scales=(0.8, 1.25))
    by_itself = Predictor(adapter, own, device="cpu", scales=scales)
    scale = by_itself.fundus.prepare(image)[1]
    assert scale == pytest.approx(diameter / 100, abs=0.02)
    probability = by_itself.probability(image)
    assert probability.shape == (120, 120)
    by_hand = Predictor(adapter, own, device="cpu", scale=scale, scales=as_by_hand)
    np.testing.assert_array_equal(probability, by_hand.probability(image))
    row = {"id": "a", "image": image, "mask": np.ones((1, 120, 120), np.uint8), "valid_mask": np.ones((120, 120), bool)}
    metrics = score_rows(by_itself, [row]).metrics(by_itself.settings, None, "test", "native")
    assert metrics.get("finer_images") == (1 if as_by_hand == (1.0, 1.5, 2.0) else None)


def test_a_negative_is_brought_back_to_the_photograph(adapter):
    image = (retina(120, 100) * [1, 0.8, 0.6]).astype(np.uint8)
    own = replace(AdapterSettings.of_network(adapter.get_base_model()), fov_colours=colours_of(image))
    predictor = Predictor(adapter, own, device="cpu")
    probability = predictor.probability(image)
    assert probability.any()
    np.testing.assert_array_equal(predictor.probability(255 - image), probability)
    paper = np.where((image > 60).any(2, keepdims=True), image, 255).astype(np.uint8)  # a photograph on white
    assert not FieldOfView(paper).is_negative and FieldOfView(255 - image).is_negative
    for colours in (None, colours_of(255 - image)):  # of no fundus photographs, or of negatives
        other = FundusNormaliser(100.0, colours)
        np.testing.assert_array_equal(other.prepare(255 - image)[0], 255 - image)


def test_scores_and_calibration_see_the_rim_cleared_as_the_masks_do():
    image = retina(200, 160)
    rows, columns = np.ogrid[:200, :200]
    given = np.hypot(rows - 100, columns - 100) < 85  # wider than what is seen: a ring of the dark ground
    row = {"id": "a", "image": image, "mask": np.zeros((1, 200, 200), np.uint8), "valid_mask": given}
    predictor = Predictor(Brightness(-5), settings(fov_diameter=160.0), device="cpu")
    everywhere = Predictor(Brightness(-5), settings(fov_diameter=160.0), device="cpu", within_fov=False)
    (sample,) = score_rows(predictor, [row]).samples
    prediction = predictor(image)
    np.testing.assert_array_equal(sample["probabilities"], prediction.probabilities)
    ring = given & ~prediction.inside
    assert ring.sum() > 2000 and not prediction.mask[ring].any() and everywhere(image).mask[ring].mean() > 0.5
    assert (prediction.probability[prediction.inside] > 0).all()


@pytest.mark.parametrize("size", [(1, 5_000_000), (5_000_000, 1), (3, 4001)])
def test_the_field_of_view_of_a_line_of_pixels_is_all_of_it(size):
    inside = FieldOfView(np.zeros((*size, 3), np.uint8)).inside()
    assert inside.shape == size and inside.all()


def test_tiny_as_it_comes_sees_a_photograph_at_the_scale_that_suits_it():
    predictor = Predictor(load_network("tiny"), device="cpu")
    for diameter, scale in ((1074, 0.5), (537, 1)):
        assert predictor.fundus.prepare(retina(1200, diameter))[1] == pytest.approx(scale, rel=0.02)


@pytest.mark.parametrize(
    ("image", "reference"), [(retina(120, 100), 104.0), (retina(120, 100), None), (photograph(60, 60), 20.0)]
)
def test_a_scale_that_is_nearly_right_or_not_known_is_left_alone(image, reference):
    own = settings(fov_diameter=reference)
    assert Predictor(Brightness(), own, device="cpu").fundus.prepare(image)[1] == 1
    assert Predictor(Brightness(), own, device="cpu", scale=2.0).fundus.prepare(image)[1] == 2


def test_a_photograph_of_foreign_colours_is_given_those_of_the_training_images():
    """Another camera: half the red, nearly no blue, all channels flatter."""
    image = retina(120, 96)
    foreign = (image * [0.5, 0.8, 0.1]).astype(np.uint8)
    own = settings(fov_colours=colours_of(image))
    expected = Predictor(Brightness(), own, device="cpu")(image).probability
    inside, error = FieldOfView(image).inside(), {}
    for match in (True, False):
        found = Predictor(Brightness(), own, device="cpu", match_colours=match)(foreign).probability
        error[match] = np.abs(found - expected)[inside].mean()
    assert error[True] < 0.03 < 0.3 < error[False]


def test_familiar_colours_and_other_images_stay_as_they_are():
    image = retina(120, 100)
    own = settings(fov_colours=colours_of(image))
    for other in ((image * 0.9).astype(np.uint8), photograph(60, 60) // 3):
        plain = Predictor(Brightness(), own, device="cpu", match_colours=False).probability(other)
        np.testing.assert_array_equal(Predictor(Brightness(), own, device="cpu").probability(other), plain)


@pytest.mark.parametrize("side", [120, 1800])
def test_nothing_is_marked_outside_the_field_of_view_of_an_adapter_of_photographs(side):
    """The network marks what is dark: all of the ground."""
    image, own = retina(side, round(0.8 * side)), replace(settings(), tile_size=TILE if side < 1000 else 600)
    rows, columns = np.ogrid[:side, :side]
    from_centre = np.hypot(rows - side / 2, columns - side / 2) / side
    inside, outside = from_centre < 0.37, from_centre > 0.405
    everywhere = Predictor(Brightness(-5), own, device="cpu", within_fov=False)(image)
    assert everywhere.mask[outside].all()
    of_others = Predictor(Brightness(-5), own, device="cpu")(image)
    np.testing.assert_array_equal(of_others.probability, everywhere.probability)
    own.fov_diameter = float(round(0.8 * side))
    found = Predictor(Brightness(-5), own, device="cpu")(image)
    assert not found.probability[outside].any()
    np.testing.assert_array_equal(found.probability[inside], everywhere.probability[inside])


def test_an_image_without_a_field_of_view_is_marked_to_its_edges():
    image = photograph(60, 97)
    everywhere, found = (
        Predictor(Brightness(), settings(), device="cpu", within_fov=value)(image).probability
        for value in (False, True)
    )
    np.testing.assert_array_equal(found, everywhere)


def warnings_of(image: np.ndarray, **changes) -> tuple[str, ...]:
    return Predictor(Brightness(), settings(**changes), device="cpu")(image).warnings


def test_far_more_foreground_than_in_any_training_image_is_doubted():
    bright = np.full((TILE, TILE, 3), 255, np.uint8)
    (warning,) = warnings_of(bright, foreground_range=(0.02, 0.2))
    assert warning == "100.0% of the image is foreground; in the training images it is at most 20.0%"
    assert not warnings_of(bright, foreground_range=(0.02, 0.4)) and not warnings_of(bright)
    assert not warnings_of(bright // 255, foreground_range=(0.02, 0.2))


def test_a_scale_far_from_the_training_images_is_doubted():
    image = retina(400, 340)
    (warning,) = warnings_of(image, fov_diameter=90.0)
    assert warning.startswith("the field of view is 34") and "in the training images it is 90" in warning
    assert not warnings_of(image, fov_diameter=150.0) and not warnings_of(photograph(90, 90), fov_diameter=9.0)


def test_a_photograph_without_a_field_of_view_is_doubted_by_an_adapter_of_photographs():
    inside = photograph(90, 90)
    (warning,) = warnings_of(inside, fov_diameter=90.0, foreground_range=(0.0, 1.0))
    assert warning.startswith("no round field of view was found")
    assert not warnings_of(inside, fov_diameter=90.0) and not warnings_of(inside, foreground_range=(0.0, 1.0))


def test_most_of_an_image_outside_a_field_of_view_is_doubted_where_any_image_may_come():
    image = retina(400, 300)
    (warning,) = warnings_of(image, fov_diameter=150.0)
    assert warning.startswith("5") and "--no_within_fov and --scale 1" in warning
    assert not warnings_of(image, fov_diameter=150.0, foreground_range=(0.0, 1.0))


def test_colours_far_from_the_training_images_are_doubted():
    image = retina(120, 100)
    (warning,) = warnings_of((image * [1, 1, 0.1]).astype(np.uint8), fov_colours=colours_of(image))
    assert warning == "the colours of the photograph are far outside those of the training images"
    assert not warnings_of((image * 0.6).astype(np.uint8), fov_colours=colours_of(image))
