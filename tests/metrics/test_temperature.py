import numpy as np
import pytest
import torch
import torch.nn.functional as F

from topolora_hf.metrics import dice, ece
from topolora_hf.metrics.temperature import TEMPERATURES, apply_temperature, fit_temperature, logit_counts

SHAPE = (200, 150)


def calibrated(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, mostly of background, and a target that is drawn from them."""
    rng = np.random.default_rng(seed)
    probability = 1 / (1 + np.exp(-rng.normal(-2, 2.5, SHAPE)))
    return probability, rng.random(SHAPE) < probability


def tempered(probability: np.ndarray, temperature: float) -> np.ndarray:
    """By its definition, in torch."""
    probability = torch.from_numpy(probability)
    return torch.sigmoid((probability.log() - (1 - probability).log()) / temperature).numpy()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7, 4.0])
def test_the_temperature_that_spoiled_calibrated_probabilities_is_undone(temperature):
    images = [calibrated(seed) for seed in range(4)]
    spoiled = [(tempered(probability, 1 / temperature), target) for probability, target in images]
    fitted = fit_temperature([logit_counts(*image) for image in spoiled])
    assert fitted == pytest.approx(temperature, rel=0.03)
    for (probability, _), (certain, target) in zip(images, spoiled, strict=True):
        assert ece(apply_temperature(certain, fitted), target) == pytest.approx(ece(probability, target), abs=0.005)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_is_the_temperature_of_least_cross_entropy_inside_the_field_of_view(dtype):
    """Against torch's cross-entropy of every pixel, on a fine grid."""
    images, valid = [], np.random.default_rng(9).random(SHAPE) < 0.7
    for seed in range(3):
        probability, target = calibrated(seed)
        images.append((tempered(probability, 0.6).astype(dtype), np.where(valid, target, ~target)))
    fitted = fit_temperature([logit_counts(*image, valid) for image in images])
    logits = torch.cat([torch.logit(torch.from_numpy(probability.astype(float))[valid]) for probability, _ in images])
    labels = torch.cat([torch.from_numpy(target[valid]).double() for _, target in images])
    grid = np.linspace(1.2, 2.2, 201)
    losses = [F.binary_cross_entropy_with_logits(logits.clamp(-16, 16) / float(each), labels).item() for each in grid]
    assert fitted == pytest.approx(grid[int(np.argmin(losses))], abs=0.006)
    assert 0 < np.argmin(losses) < 200


def test_order_and_the_mask_at_one_half_stay_and_other_thresholds_go_along():
    probability = np.append(np.random.default_rng(0).random(10_000), [0, 0.5, 1]).astype(np.float32)
    for temperature in (0.3, 1, 2.5):
        scaled = apply_temperature(probability, temperature)
        assert scaled.dtype == np.float32 and (scaled[-3:] == [0, 0.5, 1]).all()
        np.testing.assert_array_equal(scaled >= 0.5, probability >= 0.5)
        assert (np.diff(scaled[np.argsort(probability)]) >= 0).all()
        np.testing.assert_array_equal(scaled >= apply_temperature(0.42, temperature), probability >= 0.42)
    assert apply_temperature(probability, 1.0) is probability


def test_certain_and_wrong_pixels_cost_a_finite_amount():
    target = np.random.default_rng(0).random(SHAPE) < 0.5
    certain = np.where(np.random.default_rng(1).random(SHAPE) < 0.8, target, ~target).astype(np.float32)
    fitted = fit_temperature([logit_counts(certain, target)])
    # At the highest temperature they count as 0.83, and are right in 8 of 10 cases.
    assert fitted == pytest.approx(TEMPERATURES[1], rel=1e-3)


def test_probabilities_that_are_never_wrong_are_sharpened_to_the_bound():
    target = np.random.default_rng(0).random(SHAPE) < 0.5
    fitted = fit_temperature([logit_counts(np.where(target, 0.6, 0.4), target)])
    assert fitted == pytest.approx(TEMPERATURES[0], rel=1e-3)
    assert dice(apply_temperature(np.where(target, 0.6, 0.4), fitted) >= 0.5, target) == 1


def test_images_of_one_kind_say_nothing_of_certainty():
    nothing = np.zeros(SHAPE, bool)
    with pytest.raises(ValueError, match="got 0 and 30000 in 1 images"):
        fit_temperature([logit_counts(np.full(SHAPE, 0.2), nothing)])
    with pytest.raises(ValueError, match="got 0 and 0 in 1 images"):
        fit_temperature([logit_counts(np.full(SHAPE, 0.2), nothing, nothing)])
    with pytest.raises(ValueError, match="in 0 images"):
        fit_temperature([])


@pytest.mark.parametrize("temperature", [0, -1, float("nan")])
def test_a_temperature_that_is_none_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature must be above 0, got"):
        apply_temperature([0.5], temperature)
