"""SAM's image encoder at any size, in transformers' way or in ours, on the same modules and parameters."""

from collections.abc import Callable

import torch
from torch import nn

from .attention import vision_attention
from .feed_forward import add_feed_forward


def run_layers(encoder: nn.Module, tokens: torch.Tensor, layers: slice, fast: bool) -> torch.Tensor:
    """Transformer layers of a `SamVisionEncoder`, (B, h, w, C) -> (B, h, w, C).

    Args:
        encoder: its layers, which may be checkpointed (`gradient_checkpointing_enable`).
        tokens: what the first of them takes.
        layers: which of them.
        fast: by this package's exact attention and feed-forward; False runs transformers' own `SamVisionLayer`s.
    """
    for layer in encoder.layers[layers]:
        tokens = checkpointed(layer, run_layer, tokens) if fast else layer(tokens)
    return tokens


def checkpointed(layer: nn.Module, run: Callable, tokens: torch.Tensor) -> torch.Tensor:
    """Give `run(layer, tokens)`, with checkpoints if transformers asks the layer for them."""
    if layer.gradient_checkpointing and layer.training and _learns(layer, tokens):
        return layer._gradient_checkpointing_func(run, layer, tokens)
    return run(layer, tokens)


def run_layer(layer: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """What a `SamVisionLayer` computes, by `vision_attention` and `add_feed_forward`."""
    tokens = tokens + vision_attention(layer.attn, layer.layer_norm1(tokens), layer.window_size)
    return add_feed_forward(layer, tokens)


def _learns(layer: nn.Module, tokens: torch.Tensor) -> bool:
    """Whether a backward pass reaches the layer: where it does not, nothing is kept that could be computed again."""
    return torch.is_grad_enabled() and (
        tokens.requires_grad or any(parameter.requires_grad for parameter in layer.parameters())
    )
