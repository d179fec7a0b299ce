import numpy as np
import pytest
import torch
import torch.nn.functional as F

from topolora_hf.metrics.calibration import ece
from topolora_hf.metrics.overlap import dice
from topolora_hf.metrics.platt_scaling import (
    TEMPERATURES,
    PlattScaling,
    fit_platt_scaling,
    logit_counts,
)

SHAPE = (200, 150)


def calibrated(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, mostly of background, and a target that is drawn from them."""
    rng = np.random.default_rng(seed)
    probability = 1 / (1 + np.exp(-rng.normal(-2, 2.5, SHAPE)))
    return probability, rng.random(SHAPE) < probability


def scaled(probability: np.ndarray, temperature: float, bias: float) -> np.ndarray:
    """By its definition, in torch."""
    probability = torch.from_numpy(probability)
    return torch.sigmoid((probability.log() - (1 - probability).log()) / temperature + bias).numpy()


@pytest.mark.parametrize(("temperature", "bias"), [(0.5, 0), (1.0, 0), (1.7, -1), (1.0, 2), (4.0, -0.5)])
def test_what_spoiled_calibrated_probabilities_is_undone(temperature, bias):
    images = [calibrated(seed) for seed in range(4)]
    spoiled = [(scaled(probability, 1 / temperature, -bias * temperature), target) for probability, target in images]
    fitted = fit_platt_scaling([logit_counts(*image) for image in spoiled])
    assert fitted.temperature == pytest.approx(temperature, rel=0.03)
    assert fitted.bias == pytest.approx(bias, abs=0.03)
    for (probability, _), (off, target) in zip(images, spoiled, strict=True):
        assert ece(fitted(off), target) == pytest.approx(ece(probability, target), abs=0.005)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_is_of_least_cross_entropy_inside_the_field_of_view(dtype):
    """Against torch's cross-entropy of every pixel, on a fine grid."""
    images, valid = [], np.random.default_rng(9).random(SHAPE) < 0.7
    for seed in range(3):
        probability, target = calibrated(seed)
        images.append((scaled(probability, 0.6, 0.5).astype(dtype), np.where(valid, target, ~target)))
    fitted = fit_platt_scaling([logit_counts(*image, valid) for image in images])
    logits = torch.cat([torch.logit(torch.from_numpy(probability.astype(float))[valid]) for probability, _ in images])
    labels = torch.cat([torch.from_numpy(target[valid]).double() for _, target in images])

    def loss(temperature: float, bias: float) -> float:
        return F.binary_cross_entropy_with_logits(logits.clamp(-16, 16) / temperature + bias, labels).item()

    temperatures, biases = np.linspace(1.6, 1.75, 16), np.linspace(-0.4, -0.2, 21)
    losses = np.array([[loss(temperature, bias) for bias in biases] for temperature in temperatures])
    row, column = np.unravel_index(losses.argmin(), losses.shape)
    assert 0 < row < 15 and 0 < column < 20
    assert fitted.temperature == pytest.approx(temperatures[row], abs=0.011)
    assert fitted.bias == pytest.approx(biases[column], abs=0.011)


def test_order_stays_and_thresholds_go_along():
    probability = np.append(np.random.default_rng(0).random(10_000), [0, 0.5, 1]).astype(np.float32)
    for scaling in (PlattScaling(0.3), PlattScaling(bias=-2), PlattScaling(2.5, 1.5), PlattScaling()):
        changed = scaling(probability)
        assert changed.dtype == np.float32 and (changed[[-3, -1]] == [0, 1]).all()
        assert (np.diff(changed[np.argsort(probability)]) >= 0).all()
        for threshold in (0.42, 0.57):
            np.testing.assert_array_equal(changed >= scaling(threshold), probability >= threshold)
    assert PlattScaling()(probability) is probability
    for temperature in (0.3, 1, 2.5):
        changed = PlattScaling(temperature)(probability)
        assert (changed[-3:] == [0, 0.5, 1]).all()
        np.testing.assert_array_equal(changed >= 0.5, probability >= 0.5)


def test_certain_and_wrong_pixels_cost_a_finite_amount():
    target = np.random.default_rng(0).random(SHAPE) < 0.5
    certain = np.where(np.random.default_rng(1).random(SHAPE) < 0.8, target, ~target).astype(np.float32)
    fitted = fit_platt_scaling([logit_counts(certain, target)])
    # At the highest temperature they count as 0.83, and are right in 8 of 10 cases.
    assert fitted.temperature == pytest.approx(TEMPERATURES[1], rel=1e-3)
    assert fitted.bias == pytest.approx(0, abs=0.05)


def test_probabilities_that_are_never_wrong_are_sharpened_to_the_bound():
    target = np.random.default_rng(0).random(SHAPE) < 0.5
    fitted = fit_platt_scaling([logit_counts(np.where(target, 0.6, 0.4), target)])
    assert fitted.temperature == pytest.approx(TEMPERATURES[0], rel=1e-3)
    assert dice(fitted(np.where(target, 0.6, 0.4)) >= 0.5, target) == 1


def test_images_of_one_kind_say_nothing_of_certainty():
    nothing = np.zeros(SHAPE, bool)
    with pytest.raises(ValueError, match="got 0 and 30000 in 1 images"):
        fit_platt_scaling([logit_counts(np.full(SHAPE, 0.2), nothing)])
    with pytest.raises(ValueError, match="got 0 and 0 in 1 images"):
        fit_platt_scaling([logit_counts(np.full(SHAPE, 0.2), nothing, nothing)])
    with pytest.raises(ValueError, match="in 0 images"):
        fit_platt_scaling([])


@pytest.mark.parametrize("temperature", [0, -1, float("nan")])
def test_a_temperature_that_is_none_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature must be above 0, got"):
        PlattScaling(temperature)


def test_a_bias_that_is_none_is_refused():
    with pytest.raises(ValueError, match="bias must be finite, got inf"):
        PlattScaling(bias=float("inf"))
