import pytest
import torch

from benchmark.gradients import compare_gradients, largest_difference, step_gradients
from benchmark.networks import NetworkShape

SMALL = NetworkShape("small")


@pytest.fixture
def double_precision():
    """Where no choice of an erosion or a ReLU hangs on rounding."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(SMALL, id="small"),
        pytest.param(NetworkShape("vit_b", image_size=96, layers=2), id="vit_b", marks=pytest.mark.slow),
    ],
)
def test_our_step_has_the_authors_gradients(shape, double_precision):
    """Windows need padding in both."""
    found = compare_gradients(shape, batch=1, device="cpu", threads=1)
    assert found.keys() == {"ours", "ours-checkpointing", "sdpa"}
    assert all(worst["difference"] < 1e-5 for worst in found.values()), found


def test_our_step_has_the_authors_gradients_in_float32():
    found = compare_gradients(SMALL, batch=2, device="cpu", threads=1)
    assert all(worst["difference"] < 1e-3 for worst in found.values()), found


def test_transformers_step_has_the_authors_gradients(double_precision):
    reference = step_gradients(SMALL, 1, "cpu", "authors")
    assert all(gradient.abs().max() > 0 for name, gradient in reference.items() if "lora" in name)
    assert largest_difference(step_gradients(SMALL, 1, "cpu", "eager"), reference)[0] < 1e-5


def test_a_difference_is_found_and_named():
    reference = step_gradients(SMALL, 1, "cpu", "authors")
    name = "sam.vision_encoder.layers.0.mlp.lin1.lora_A"
    changed = reference | {name: reference[name] * 1.01}
    assert largest_difference(changed, reference) == (pytest.approx(0.01, rel=0.02), name)


def test_what_one_side_does_not_train_must_have_no_gradient():
    reference = {"a": torch.ones(2), "b": torch.zeros(2)}
    assert largest_difference({"a": torch.ones(2)}, reference)[0] == 0
    assert largest_difference({"b": torch.zeros(2)}, reference) == (1, "a")


def test_a_keys_bias_is_compared_on_the_scale_of_its_weight():
    reference = {"k_proj.weight": torch.ones(2), "k_proj.bias": torch.full((2,), 1e-9)}
    noise = {"k_proj.weight": torch.ones(2), "k_proj.bias": torch.full((2,), -1e-9)}
    assert largest_difference(noise, reference)[0] == pytest.approx(2e-9)


def test_what_is_not_a_number_is_the_largest_difference():
    reference = {"a": torch.ones(2), "b": torch.ones(2), "c": torch.ones(2)}
    broken = {**reference, "b": torch.full((2,), torch.nan), "c": torch.full((2,), 1.1)}
    assert largest_difference(broken, reference) == (torch.inf, "b")
