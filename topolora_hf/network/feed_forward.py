"""The feed-forward half of an encoder layer with LoRA in it, in less memory and fewer passes.

As PEFT writes it, LoRA costs three more tensors as large as the layer's output and keeps the inputs of both linear
layers for the backward pass. Here a block of tokens at a time goes through normalisation, both layers and GELU, LoRA is
added in place, and only the input and what goes into GELU are kept. Values and gradients are the same.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable
from transformers.activations import GELUActivation

# Tokens that are worked on at once on a CPU: their hidden features (3,072 wide in ViT-B) fit the cache. A GPU takes all
# of them at once: there few launches count.
_TOKENS_A_BLOCK = 1024
# What the families call the two linear layers and the activation between them: SAM, SAM 2, SAM 3.
_NAMES = (("lin1", "lin2", "act"), ("proj_in", "proj_out", "activation"), ("fc1", "fc2", "activation_fn"))


class _Linear(NamedTuple):
    """`x W^T + b + scaling (x A^T) B^T`; A (r, in) and B (out, r) are None without LoRA."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    lora_a: torch.Tensor | None = None
    lora_b: torch.Tensor | None = None
    scaling: float = 1.0

    def to(self, dtype: torch.dtype) -> "_Linear":
        tensors = (None if tensor is None else tensor.to(dtype) for tensor in self[:4])
        return _Linear(*tensors, self.scaling)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in) -> (N, out)"""
        y = F.linear(x, self.weight, self.bias)
        if self.lora_a is not None:
            y.addmm_(x @ self.lora_a.T, self.lora_b.T, alpha=self.scaling)
        return y

    def backward(self, x: torch.Tensor, grad: torch.Tensor, sums: tuple) -> torch.Tensor:
        """The gradient of x (N, in) from that of the output (N, out); adds A's and B's to `sums`."""
        grad_x = grad @ self.weight
        if self.lora_a is not None:
            grad_low = (grad @ self.lora_b).mul_(self.scaling)
            grad_x.addmm_(grad_low, self.lora_a)
            sums[0].add_(grad_low.T @ x)
            sums[1].add_(grad.T @ (x @ self.lora_a.T), alpha=self.scaling)
        return grad_x

    def zero_gradients(self) -> tuple:
        return tuple(None if tensor is None else torch.zeros_like(tensor) for tensor in (self.lora_a, self.lora_b))


def add_feed_forward(layer: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """`tokens + layer.mlp(layer.layer_norm2(tokens))` of an encoder's layer, (B, H, W, C) -> (B, H, W, C).

    What is more than frozen weights with at most one plain LoRA adapter (trained weights, DoRA, dropout, several
    adapters at once, quantised weights) runs as its modules say.
    """
    norm, parts = layer.layer_norm2, _read_layer(layer)
    if parts is None:
        return tokens + layer.mlp(norm(tokens))
    first, act, second = parts
    device = tokens.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else tokens.dtype
    trained = first.lora_a, first.lora_b, second.lora_a, second.lora_b
    return _FeedForward.apply(tokens, *trained, norm, act, first, second, dtype)


def is_in_place(layer: nn.Module) -> bool:
    """Whether `add_feed_forward` computes a layer's LoRA itself, not PEFT's modules."""
    return hasattr(layer, "layer_norm2") and hasattr(layer, "mlp") and _read_layer(layer) is not None


def _read_layer(layer: nn.Module) -> tuple[_Linear, nn.Module, _Linear] | None:
    """The two linear layers and the activation between them; None when they run as their modules say."""
    names = next(names for names in _NAMES if hasattr(layer.mlp, names[0]))
    lin1, lin2, act = (getattr(layer.mlp, name) for name in names)
    first, second = _read(lin1), _read(lin2)
    frozen = not any(parameter.requires_grad for parameter in layer.layer_norm2.parameters())
    plain = first is not None and second is not None and frozen and type(act) is GELUActivation
    return (first, act, second) if plain else None


def _read(linear: nn.Module) -> _Linear | None:
    """What a linear layer computes now; None when it is more than frozen weights with one plain LoRA adapter."""
    if type(linear) is nn.Linear:
        plain = type(linear.weight) is nn.Parameter  # torchao's quantised weights are of other types
        trained = any(parameter.requires_grad for parameter in linear.parameters())
        return _Linear(linear.weight, linear.bias) if plain and not trained else None
    from peft.tuners import lora  # a network without an adapter never comes here, and does not wait for it

    if not isinstance(linear, lora.Linear):
        return None
    base = _read(linear.base_layer)
    if linear.disable_adapters:
        return None if linear.merged else base
    active = [] if linear.merged else [name for name in linear.active_adapters if name in linear.lora_A]
    if base is None or not active:
        return base
    name = active[0]
    plain = len(active) == 1 and name not in linear.lora_variant and not linear.lora_bias[name]
    if not plain or not isinstance(linear.lora_dropout[name], nn.Identity):
        return None
    lora_a, lora_b = linear.lora_A[name].weight, linear.lora_B[name].weight
    return base._replace(lora_a=lora_a, lora_b=lora_b, scaling=linear.scaling[name])


class _FeedForward(torch.autograd.Function):
    """Linear layers and GELU in `dtype` (that of autocast); the normalisation and the sum in the tokens' own."""

    @staticmethod
    def forward(ctx, tokens, lora_a1, lora_b1, lora_a2, lora_b2, norm, activation, first, second, dtype):
        ctx.norm, ctx.activation, ctx.first, ctx.second, ctx.dtype = norm, activation, first, second, dtype
        first, second = first.to(dtype), second.to(dtype)
        flat = tokens.reshape(-1, tokens.shape[-1])
        out = torch.empty_like(flat)
        keep = any(ctx.needs_input_grad)
        kept = flat.new_empty(len(flat) if keep else 0, len(first.weight), dtype=dtype)
        with torch.autocast(tokens.device.type, enabled=False):
            for block in _blocks(flat):
                hidden = first.forward(norm(flat[block]).to(dtype))
                if keep:
                    kept[block] = hidden
                torch.add(flat[block], second.forward(activation(hidden)), out=out[block])
        if keep:
            ctx.save_for_backward(flat, kept)
        return out.view(tokens.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        flat, kept = ctx.saved_tensors
        first, second = ctx.first.to(ctx.dtype), ctx.second.to(ctx.dtype)
        grad_flat = grad.reshape(flat.shape)
        grad_tokens = torch.empty_like(flat)
        grads_first, grads_second = ctx.first.zero_gradients(), ctx.second.zero_gradients()
        for block in _blocks(flat):
            with torch.enable_grad():
                tokens = flat[block].detach().requires_grad_()
                normalised = ctx.norm(tokens)
                hidden = kept[block].detach().requires_grad_()
                activated = ctx.activation(hidden)
            grad_out = grad_flat[block].to(ctx.dtype)
            grad_activated = second.backward(activated.detach(), grad_out, grads_second)
            (grad_hidden,) = torch.autograd.grad(activated, hidden, grad_activated)
            grad_normalised = first.backward(normalised.detach().to(ctx.dtype), grad_hidden, grads_first)
            (from_norm,) = torch.autograd.grad(normalised, tokens, grad_normalised.to(normalised.dtype))
            torch.add(grad_flat[block], from_norm, out=grad_tokens[block])
        return grad_tokens.view(grad.shape), *grads_first, *grads_second, None, None, None, None, None


def _blocks(flat: torch.Tensor) -> Iterator[slice]:
    step = _TOKENS_A_BLOCK if flat.device.type == "cpu" else max(1, len(flat))
    return (slice(start, start + step) for start in range(0, len(flat), step))
