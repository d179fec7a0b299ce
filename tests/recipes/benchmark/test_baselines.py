"""The baselines are what they stand for: transformers, PEFT and MONAI compute the same."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers.models.sam.modeling_sam import SamVisionAttention, SamVisionLayer, SamVisionSdpaAttention

from benchmark.baselines import (
    AuthorsBlock,
    LoraLinear,
    MaterialisedAttention,
    authors_loss,
    pooled_cldice_loss,
    pooled_skeleton,
    relative_positions,
)
from benchmark.networks import NetworkShape
from topolora_hf.objective.losses import TopoLoss


def vision_config():
    return NetworkShape("small").config("eager").vision_config


def tensor(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gradients(module: nn.Module, features: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The output, and the gradients of input and parameters for a fixed cotangent."""
    features = features.clone().requires_grad_()
    output = module(features)
    output = output[0] if isinstance(output, tuple) else output
    module.zero_grad()
    output.backward(tensor(*output.shape, seed=1))
    return output, {"input": features.grad} | {name: p.grad.clone() for name, p in module.named_parameters()}


@pytest.mark.parametrize("attention_class", [SamVisionAttention, SamVisionSdpaAttention])
@pytest.mark.parametrize("size", [(4, 4), (3, 5)])
def test_materialised_attention_is_transformers_with_its_gradients(attention_class, size, fill_with_random_weights):
    stock = attention_class(vision_config(), window_size=0)
    stock.rel_pos_h, stock.rel_pos_w = (nn.Parameter(torch.empty(2 * side - 1, 16)) for side in size)
    fill_with_random_weights(stock)
    features = tensor(2, *size, 64)
    expected, expected_gradients = gradients(stock, features)
    output, found = gradients(MaterialisedAttention(stock), features)
    torch.testing.assert_close(output, expected)
    assert found.keys() == expected_gradients.keys() and "rel_pos_h" in found
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.parametrize("window_size", [0, 3])
def test_a_block_whose_lora_is_zero_is_transformers_layer(window_size, fill_with_random_weights):
    """A window of 3 over 4 x 4 tokens needs padding, on both sides."""
    layer = fill_with_random_weights(SamVisionLayer(vision_config(), window_size))
    features = tensor(2, 4, 4, 64)
    expected = layer(features)
    torch.testing.assert_close(AuthorsBlock(layer, rank=2, alpha=4)(features), expected)


def test_lora_as_a_module_is_pefts():
    linear = nn.Linear(6, 5)
    ours = LoraLinear(linear, rank=2, alpha=8)
    nn.init.normal_(ours.lora_B)
    theirs = get_peft_model(nn.Sequential(linear), LoraConfig(r=2, lora_alpha=8, target_modules=["0"]))
    wrapped = theirs.base_model.model[0]
    wrapped.lora_A["default"].weight.data, wrapped.lora_B["default"].weight.data = ours.lora_A.data, ours.lora_B.data
    features = tensor(3, 6)
    torch.testing.assert_close(ours(features), theirs(features))
    assert not torch.allclose(ours(features), linear(features))


@pytest.mark.parametrize("iterations", [0, 1, 9])
def test_the_pooled_skeleton_is_monais(iterations):
    soft_skel = pytest.importorskip("monai.losses.cldice").soft_skel
    image = torch.rand(2, 1, 24, 31, generator=torch.Generator().manual_seed(0))
    assert torch.equal(pooled_skeleton(image, iterations), soft_skel(image, iterations))


def test_a_perfect_prediction_costs_no_cldice_and_a_thinner_one_some():
    target = torch.zeros(1, 1, 32, 32)
    target[..., 10:15, 4:28] = 1
    shorter = target.clone()
    shorter[..., 16:] = 0
    assert pooled_cldice_loss(target, target, 5).item() == pytest.approx(0, abs=1e-5)
    assert pooled_cldice_loss(shorter, target, 5).item() > 0.2


def test_the_authors_loss_is_topo_loss_with_soft_skeletons():
    logits, labels = tensor(3, 1, 24, 24), (tensor(3, 1, 24, 24, seed=1) > 0).float()
    criterion = TopoLoss(4, cldice_weight=0.5, schedule="fixed", target_skeleton="soft")
    torch.testing.assert_close(authors_loss(logits, labels, 4), criterion(logits, labels).total)


def test_relative_positions_run_from_query_to_key():
    table = torch.arange(5.0)[:, None]
    assert relative_positions(table, 3)[..., 0].tolist() == [[2, 1, 0], [3, 2, 1], [4, 3, 2]]
    with pytest.raises(ValueError, match="5 relative positions does not fit 4 tokens"):
        relative_positions(table, 4)
