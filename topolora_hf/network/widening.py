"""A wider detail branch that starts from what a narrower one has learnt.

Net2WiderNet (Chen, Goodfellow and Shlens 2016, arXiv 1511.05641): every channel becomes several equal ones, and whoever
reads it shares its weight out among them. The branch gives what it gave. The shares are drawn, so that equal channels
get unequal gradients and part.
"""

from collections.abc import Mapping

import torch

_SEED = 0


def widen(weights: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """The narrow branch's weights in the shapes of the wide one's.

    Args:
        weights: state of a narrow `DetailBranch`, by name.
        wanted: that of a wide one, for its shapes; of layers that the narrow one lacks (its `Context`, which starts
            as the identity) also for their weights.

    Returns:
        A state for the wide branch that gives the narrow one's output, up to rounding; `weights` where the wide one is
        not a whole number of times as wide, or has other outputs.
    """
    narrow, wide = (state["stem.weight"].shape[0] for state in (weights, wanted))
    if wide % narrow or weights["correction.weight"].shape[0] != wanted["correction.weight"].shape[0]:
        return weights
    generator = torch.Generator().manual_seed(_SEED)
    return {
        name: _widen(name, weights[name], tensor.shape, generator) if name in weights else tensor
        for name, tensor in wanted.items()
    }


def _widen(name: str, weight: torch.Tensor, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    # A transposed convolution (up1, up2) has its inputs first, any other its outputs.
    reads = None if weight.ndim == 1 else 0 if name.startswith("up") else 1
    for axis in range(min(weight.ndim, 2)):
        times = shape[axis] // weight.shape[axis]
        weight = torch.cat([weight] * times, dim=axis)
        if axis == reads and times > 1:
            shares = torch.rand(times, *_narrow(weight, axis, times), generator=generator) + 0.5
            weight = weight * torch.cat(list(shares / shares.sum(0)), dim=axis)
    return weight


def _narrow(weight: torch.Tensor, axis: int, times: int) -> list[int]:
    """The shape of one of several equal parts along an axis, and one share for all of a kernel."""
    shape = [*weight.shape[:2], *[1] * (weight.ndim - 2)]
    shape[axis] //= times
    return shape
