import pytest
import torch
from torch import nn
from transformers.models.sam.modeling_sam import SamVisionLayer

from topolora_hf.network import attention as attention_module
from topolora_hf.network.attention import blocked_attention, folded_attention, vision_attention

CASES = {
    "square global": (0, 8, 8),
    "non-square global, tables interpolated": (0, 12, 9),
    "rows wide enough to broadcast": (0, 6, 40),
    "windows that fit": (4, 8, 12),
    "windows that need padding": (5, 8, 12),
    "a window larger than the map": (14, 6, 9),
}


@pytest.fixture
def layer(sam_config):
    def make(window_size: int, dtype: torch.dtype = torch.float32) -> SamVisionLayer:
        config = sam_config("small").vision_config
        config._attn_implementation = "eager"
        layer = SamVisionLayer(config, window_size)
        generator = torch.Generator().manual_seed(0)
        for parameter in layer.parameters():
            spread = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.2
            nn.init.normal_(parameter, std=spread, generator=generator)
        nn.init.normal_(layer.attn.rel_pos_h, generator=generator)
        nn.init.normal_(layer.attn.rel_pos_w, generator=generator)
        return layer.to(dtype)

    return make


def stock_attention(layer: SamVisionLayer, tokens: torch.Tensor) -> torch.Tensor:
    """transformers' attention in its windows."""
    if not layer.window_size:
        return layer.attn(tokens)[0]
    windows, padded = layer.window_partition(tokens, layer.window_size)
    return layer.window_unpartition(layer.attn(windows)[0], layer.window_size, padded, tokens.shape[1:3])


def values_and_gradients(function, layer: SamVisionLayer, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    tokens = tokens.clone().requires_grad_()
    layer.zero_grad()
    out = function(tokens)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(2)).to(out)
    (out * weights).mean().backward()
    gradients = {name: parameter.grad.clone() for name, parameter in layer.attn.named_parameters()}
    return {"out": out.detach(), "tokens": tokens.grad, **gradients}


def random_tokens(batch: int, height: int, width: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(batch, height, width, 64, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("attend", [blocked_attention, folded_attention])
@pytest.mark.parametrize("case", CASES)
def test_values_and_every_gradient_are_those_of_transformers(layer, monkeypatch, attend, case):
    window_size, height, width = CASES[case]
    monkeypatch.setattr(attention_module, "blocked_attention", attend)
    layer, tokens = layer(window_size), random_tokens(2, height, width)
    expected = values_and_gradients(lambda x: stock_attention(layer, x), layer, tokens)
    computed = values_and_gradients(lambda x: vision_attention(layer.attn, x, window_size), layer, tokens)
    for name in expected:
        assert expected[name].abs().max() > 1e-5, f"{name}: nothing to compare"
        torch.testing.assert_close(computed[name], expected[name], atol=1e-5, rtol=0, msg=name)


@pytest.mark.parametrize("scores_a_block", [1, 50])
@pytest.mark.parametrize("window_size", [0, 5])
def test_the_size_of_a_block_changes_nothing(layer, monkeypatch, scores_a_block, window_size):
    layer, tokens = layer(window_size, torch.float64), random_tokens(3, 8, 12, torch.float64)
    whole = values_and_gradients(lambda x: vision_attention(layer.attn, x, window_size), layer, tokens)
    monkeypatch.setattr(attention_module, "_SCORES_A_BLOCK", scores_a_block)
    in_blocks = values_and_gradients(lambda x: vision_attention(layer.attn, x, window_size), layer, tokens)
    for name in whole:
        torch.testing.assert_close(in_blocks[name], whole[name], atol=1e-12, rtol=1e-12, msg=name)


@pytest.mark.parametrize("wide", [5, 4])
def test_the_backward_pass_is_the_derivative(monkeypatch, wide):
    """In float64 against finite differences: a padded window, rows that count as short and as wide."""
    monkeypatch.setattr(attention_module, "_WIDE", wide)
    window = 3, 4
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, 2, 5, 3, 2, 2), (3, 2, 2), (window[0], window[0], 2), (window[1], window[1], 2)]
    inputs = [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]
    assert torch.autograd.gradcheck(blocked_attention, inputs)


def test_only_the_projection_is_kept_for_the_backward_pass():
    qkv = torch.randn(1, 16, 16, 3, 4, 8, requires_grad=True)
    tables = torch.randn(16, 16, 8), torch.randn(16, 16, 8)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda x: x):
        blocked_attention(qkv, torch.zeros(3, 4, 8), *tables)
    assert sum(kept) <= qkv.numel() + 3 * 4 * 8 + 2 * tables[0].numel()


def test_autocast_computes_in_its_precision(layer):
    layer, tokens = layer(0), random_tokens(2, 8, 12)
    exact = vision_attention(layer.attn, tokens, 0)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = vision_attention(layer.attn, tokens, 0)
        stock = stock_attention(layer, tokens)
    assert rounded.dtype == torch.bfloat16
    error, stock_error = ((x.float() - exact).norm() / exact.norm() for x in (rounded, stock))
    assert 0 < error < max(0.02, 1.2 * stock_error)
