"""Differentiable skeletons by repeated soft erosion (Shit et al. 2021, arXiv 2003.07311, algorithm 1).

Exact with respect to the definition by max-pooling, and several times faster and more frugal: nothing but the input is
kept for the gradient, and both passes work through the maps in blocks that stay in the processor's cache. The
arithmetic is in `erosion_rounds`.
"""

import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import erosion_rounds
from .erosion_rounds import join, join_backward, large, opening, opening_backward

# Cells worked through at a time. On a CPU a block's buffers should stay in the cache; elsewhere few launches count.
_BLOCK_CELLS_CPU = 1 << 18
_BLOCK_CELLS = 1 << 24

_logger = logging.getLogger(__name__)
_is_compiled = False


def compile_skeleton(wanted: bool = True) -> None:
    """Choose whether soft skeletons are compiled from now on, in this process. By default they are not.

    `torch.compile` makes them about twice as fast on a CPU with a C++ compiler, with the same bits, and saves most
    launches on a GPU with triton. Compiling takes ten to thirty seconds: it is for long runs. Only float32 is compiled.
    Without a working compiler the arithmetic stays eager, with a warning.
    """
    global _is_compiled
    _is_compiled = wanted


def compiled_if_wanted(function: Callable) -> Callable:
    """Decorate a pure tensor function; its first argument decides the dtype. Shapes are dynamic."""
    compiled = torch.compile(function, dynamic=True, fullgraph=True)

    def run(*arguments):
        # In half precision compiled code rounds less often than eager code, and gives other values.
        if _is_compiled and arguments[0].dtype == torch.float32:
            try:
                return compiled(*arguments)
            except Exception as error:  # whatever a broken or missing compiler raises; real errors return in eager mode
                compile_skeleton(False)
                _logger.warning("the soft skeleton cannot be compiled and stays in eager mode: %s", error)
        return function(*arguments)

    return run


_forward_round = compiled_if_wanted(erosion_rounds.forward_round)
_backward_residue = compiled_if_wanted(erosion_rounds.backward_residue)
_backward_erosion = compiled_if_wanted(erosion_rounds.backward_erosion)


def soft_skeletonize(probabilities: Tensor, iterations: int) -> Tensor:
    """Soft skeleton of a probability map: the first opening's residue plus `iterations` rounds of erosion.

    A structure of half-width w needs `iterations >= w - 1`; a wider one leaves nothing behind (see
    `soft_skeleton_with_core`).

    Where neighbours tie for a minimum or maximum, the gradient goes to the pixel itself if it is among them, else to
    the first of above, left, right, below (minimum) or, in the 3x3 neighbourhood, of the rows middle, upper, lower and
    in that row of middle, left, right (maximum). It can be taken once, not twice.

    Args:
        probabilities: (B, C, H, W) in [0, 1], of any floating-point type; the work is done in that type.
        iterations: rounds after the first opening, at least 0.

    Returns:
        (B, C, H, W) in [0, 1], of the same dtype.

    >>> bar = torch.zeros(1, 1, 7, 9)
    >>> bar[..., 2:5, 1:8] = 1  # 3 pixels wide
    >>> soft_skeletonize(bar, iterations=1)[0, 0, 3].int().tolist()
    [0, 0, 1, 1, 1, 1, 1, 0, 0]
    """
    return _checked_skeleton(probabilities, iterations, with_core=False)


def soft_skeleton_with_core(probabilities: Tensor, iterations: int) -> Tensor:
    """The soft skeleton, joined with the inside of what is too wide for `iterations` rounds.

    The plain skeleton of a structure that is too wide is empty, and clDice then calls any prediction right. Here what
    is left after the last erosion counts as skeleton too, as far as it is predicted as foreground (above one half, so
    that a faint background adds nothing). Where nothing is left, this is `soft_skeletonize`.
    """
    return _checked_skeleton(probabilities, iterations, with_core=True)


def _checked_skeleton(probabilities: Tensor, iterations: int, with_core: bool) -> Tensor:
    if probabilities.ndim != 4:
        raise ValueError(f"expected probabilities of shape (B, C, H, W), got {tuple(probabilities.shape)}")
    if iterations < 0:
        raise ValueError(f"iterations must be at least 0, got {iterations}")
    return _SoftSkeleton.apply(probabilities, iterations, with_core)


class _SoftSkeleton(torch.autograd.Function):
    @staticmethod
    def forward(ctx, probabilities: Tensor, iterations: int, with_core: bool) -> Tensor:
        ctx.save_for_backward(probabilities)
        ctx.iterations, ctx.with_core = iterations, with_core
        layout = _Layout(probabilities, iterations)
        canvas, guard = layout.canvas_and_guard(probabilities.detach())
        skeleton = torch.empty_like(canvas)
        scratch = [canvas.new_zeros(layout.block_cells) for _ in range(2)]
        for block in layout.blocks():
            for last in _rounds(canvas[block], guard[block], layout.stride, iterations, scratch):
                joined = last.joined
            if with_core:
                *_, core = _core(last.next_eroded, layout.stride)
                joined = join(joined, core)
            skeleton[block][layout.margin : -layout.margin] = joined[layout.beyond : -layout.beyond]
        return layout.to_maps(skeleton)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        (probabilities,) = ctx.saved_tensors
        layout = _Layout(probabilities, ctx.iterations)
        stride, margin, beyond = layout.stride, layout.margin, layout.beyond
        canvas, guard = layout.canvas_and_guard(probabilities.detach())
        of_skeleton = layout.to_canvas(gradient, fill=0)
        of_canvas = torch.zeros_like(canvas)
        scratch = [canvas.new_zeros(layout.block_cells) for _ in range(ctx.iterations + 1)]
        of_scratch = [canvas.new_zeros(layout.block_cells - 2 * stride) for _ in range(2)]
        for block in layout.blocks():
            rounds = list(_rounds(canvas[block], guard[block], stride, ctx.iterations, scratch))
            of_joined = F.pad(of_skeleton[block][margin:-margin], (beyond, beyond))
            of_block = _backward(of_joined, rounds, stride, ctx.with_core, of_scratch)
            of_canvas[block][stride:-stride].add_(of_block)
        return layout.to_maps(of_canvas), None, None


class _Round(NamedTuple):
    """What one round worked on and made; the lengths are those of `erosion_rounds`."""

    eroded: Tensor  # (N,)
    next_eroded: Tensor  # (N - 2 stride,)
    skeleton: Tensor  # (M,), before the round
    joined: Tensor  # (M,), after it


def _rounds(canvas: Tensor, guard: Tensor, stride: int, iterations: int, scratch: list[Tensor]) -> Iterator[_Round]:
    """The first opening and `iterations` rounds; round i writes its erosion into `scratch[i % len(scratch)]`, (N,)."""
    eroded, skeleton = canvas, torch.zeros_like(canvas[4 * stride + 2 :])
    for i in range(iterations + 1):
        wide = scratch[i % len(scratch)]
        next_eroded = wide[stride:-stride]
        joined = _forward_round(eroded, skeleton, guard, stride, next_eroded)
        yield _Round(eroded, next_eroded, skeleton, joined)
        eroded, skeleton = wide, joined


def _core(eroded: Tensor, stride: int) -> tuple[Tensor, ...]:
    """What `opening` gives, and the part (M,) of the last opening above one half, stretched to [0, 1]."""
    rows, opened = opening(eroded, stride)
    return rows, opened, torch.relu(2 * opened - 1)


def _backward(gradient: Tensor, rounds: list[_Round], stride: int, with_core: bool, scratch: list[Tensor]) -> Tensor:
    """From the gradient (M,) of a block's skeleton to that of its canvas, (N - 2 stride,).

    Empties `rounds`. `scratch` are two tensors (N - 2 stride,), 0 in their outermost `stride` + 1 cells.
    """
    of_next, of_eroded = scratch
    of_next.zero_()
    middle = slice(2 * stride + 2, -2 * stride - 2)
    if with_core:
        last = rounds[-1]
        rows, opened, core = _core(last.next_eroded, stride)
        gradient, of_core = join_backward(gradient, last.joined, core)
        of_next[middle].add_(opening_backward(2 * of_core, last.next_eroded, rows, opened, stride))
    while rounds:
        eroded, next_eroded, skeleton, _ = rounds.pop()
        gradient, of_residue = _backward_residue(gradient, eroded, next_eroded, skeleton, stride, of_next[middle])
        inner = of_eroded[stride + 1 : -stride - 1]
        _backward_erosion(of_next, of_residue, eroded, next_eroded, stride, inner)
        of_next, of_eroded = of_eroded, of_next
    return of_next


class _Layout:
    """How maps (B, C, H, W) lie on a flat canvas, with guard cells and, at both ends, margins of them.

    The canvas is worked through in blocks of one size (which have margins in common with their neighbours), so it ends
    with some guard cells more than needed.
    """

    def __init__(self, maps: Tensor, iterations: int):
        batch, channels, height, width = self.shape = maps.shape
        self.stride = width + 1
        # An erosion reaches `stride` cells, an opening `stride` + 1; the gradient's slices need 3 `stride` + 2 more.
        self.margin = (iterations + 4) * self.stride + 3
        self.beyond = self.margin - 2 * self.stride - 1  # cells of a block's skeleton that belong to its margins
        self.count = batch * channels * (height + 1) * self.stride
        most = _BLOCK_CELLS_CPU if maps.device.type == "cpu" else _BLOCK_CELLS
        self.blocks_in_all = -(-self.count // max(most, 4 * self.margin))
        self.step = -(-self.count // max(self.blocks_in_all, 1))
        self.block_cells = self.step + 2 * self.margin

    def blocks(self) -> Iterator[slice]:
        for i in range(self.blocks_in_all):
            yield slice(i * self.step, i * self.step + self.block_cells)

    def canvas_and_guard(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        canvas = self.to_canvas(maps, fill=-large(maps.dtype))
        guard = torch.full_like(canvas, -large(maps.dtype))
        self._maps_on(guard).fill_(large(maps.dtype))
        return canvas, guard

    def to_canvas(self, maps: Tensor, fill: float) -> Tensor:
        canvas = maps.new_full((self.blocks_in_all * self.step + 2 * self.margin,), fill)
        self._maps_on(canvas).copy_(maps)
        return canvas

    def to_maps(self, canvas: Tensor) -> Tensor:
        return self._maps_on(canvas).contiguous()

    def _maps_on(self, canvas: Tensor) -> Tensor:
        batch, channels, height, width = self.shape
        cells = canvas[self.margin : self.margin + self.count].view(batch, channels, height + 1, self.stride)
        return cells[..., :height, :width]
