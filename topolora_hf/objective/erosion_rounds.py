"""One round of the soft skeleton, and its gradient, on a flat canvas.

A canvas is a stack of maps written row after row into one dimension, with one guard cell after every row and a row of
guard cells after every map. Every neighbour of a pixel is then at a fixed distance (the pixel below is `stride` = W + 1
cells on), so that minima and maxima over neighbourhoods are those of shifted slices: no padding and no indices, in
eager mode as in compiled code. Guard cells hold `-large(dtype)`, which counts for nothing in a maximum; before a
minimum it is lifted to `large(dtype)`.

The functions are pure tensor code for any device. Lengths shrink by what a neighbourhood reaches at either end; with
canvases of N cells they are, throughout, N before an erosion, N - 2 stride after it (an "inner" canvas), and
M = N - 4 stride - 2 after the opening of that: the cells of residues and skeletons.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def forward_round(eroded: Tensor, skeleton: Tensor, guard: Tensor, stride: int, next_eroded: Tensor) -> Tensor:
    """Erode (N,) once more into `next_eroded` (N - 2 stride,), and join to the skeleton (M,) what opening took away.

    Args:
        guard: (N,), `large` in pixels, `-large` in guard cells.

    Returns:
        (M,), the new skeleton.
    """
    smallest = _extreme(torch.minimum, _lifted(eroded), _cross(stride), stride)
    torch.minimum(smallest, _middle(guard, stride), out=next_eroded)
    _, opened = opening(next_eroded, stride)
    return join(skeleton, _residue(eroded, opened, stride))


def backward_residue(
    gradient: Tensor, eroded: Tensor, next_eroded: Tensor, skeleton: Tensor, stride: int, next_gradient: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradient of `forward_round` but for the erosion, from that of its skeleton (M,).

    Args:
        eroded, next_eroded, skeleton: as `forward_round` was given and wrote them.
        next_gradient: (N - 6 stride - 4,), the middle of the gradient of `next_eroded`; updated in place.

    Returns:
        The gradients (M,) of the skeleton before the round, and of the residue, which is `eroded`'s share.
    """
    rows, opened = opening(next_eroded, stride)
    residue = _residue(eroded, opened, stride)
    of_skeleton, of_residue = join_backward(gradient, skeleton, residue)
    next_gradient.sub_(opening_backward(of_residue, next_eroded, rows, opened, stride))
    return of_skeleton, of_residue


def backward_erosion(
    next_gradient: Tensor, of_residue: Tensor, eroded: Tensor, next_eroded: Tensor, stride: int, gradient: Tensor
) -> None:
    """The gradient of an erosion, from that of `next_eroded` (N - 2 stride,) and the residue's share (M,).

    Args:
        gradient: (M,), the middle of the gradient of `eroded`; written.
    """
    routed = _route(next_gradient, _lifted(eroded), next_eroded, _cross(stride), stride, minimum=True)
    torch.add(_middle(routed, 1), of_residue, out=gradient)


def opening(eroded: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Of an inner canvas: the maxima over three in a row (2 fewer), and over the 3x3 neighbourhood (M)."""
    rows = _extreme(torch.maximum, eroded, (0, -1, 1), 1)
    return rows, _extreme(torch.maximum, rows, (0, -stride, stride), stride)


def opening_backward(gradient: Tensor, eroded: Tensor, rows: Tensor, opened: Tensor, stride: int) -> Tensor:
    """From the gradient (M) of what `opening` found to that of the middle (N - 6 stride - 4) of its inner canvas."""
    of_rows = _route(gradient, rows, opened, (0, -stride, stride), stride)
    return _route(of_rows, _middle(eroded, 2 * stride), _middle(rows, 2 * stride), (0, -1, 1), 1)


def join(skeleton: Tensor, part: Tensor) -> Tensor:
    """The probabilistic union of two maps."""
    return skeleton + torch.relu_(part - skeleton * part)


def join_backward(gradient: Tensor, skeleton: Tensor, part: Tensor) -> tuple[Tensor, Tensor]:
    """From the gradient of `join` to those of its two inputs; the second is 0 where `part` is not positive."""
    felt = _where_above(gradient, part - skeleton * part)
    return gradient - felt * part, felt - felt * skeleton


def large(dtype: torch.dtype) -> float:
    """What guard cells hold: above any probability, and finite, as must be differences of guard cells."""
    return torch.finfo(dtype).max / 4


def _lifted(cells: Tensor) -> Tensor:
    """The cells with `large` in guard cells."""
    return F.threshold(cells, -large(cells.dtype) / 2, large(cells.dtype))


def _residue(eroded: Tensor, opened: Tensor, stride: int) -> Tensor:
    """What opening takes away, (M,); 0 in guard cells."""
    return torch.relu_(_middle(eroded, 2 * stride + 1) - opened)


def _where_above(gradient: Tensor, values: Tensor) -> Tensor:
    """The gradient where the values are above 0, else 0; overwrites the values. Much faster than `torch.where`."""
    return torch.ops.aten.threshold_backward.grad_input(gradient, values, 0, grad_input=values)


def _middle(cells: Tensor, beyond: int) -> Tensor:
    return cells.narrow(0, beyond, cells.numel() - 2 * beyond)


def _cross(stride: int) -> tuple[int, ...]:
    return (0, -stride, -1, 1, stride)


def _extreme(choose: Callable[..., Tensor], values: Tensor, offsets: Sequence[int], reach: int) -> Tensor:
    """The minimum or maximum of each cell's neighbours at `offsets`; shorter by `reach` at either end."""
    count = values.numel() - 2 * reach
    first, second, *others = (values.narrow(0, reach + offset, count) for offset in offsets)
    extreme = choose(first, second)
    for other in others:
        choose(extreme, other, out=extreme)
    return extreme


def _route(
    gradient: Tensor, values: Tensor, extreme: Tensor, offsets: Sequence[int], reach: int, minimum: bool = False
) -> Tensor:
    """The gradient of `_extreme` (n,), at the middle (n - 2 reach,) of its `values` (n + 2 reach,).

    All of each cell's goes to the first of `offsets` where the extreme is attained.
    """
    count = gradient.numel()
    shares, left = [], gradient
    for offset in offsets[:-1]:
        shifted = values.narrow(0, reach + offset, count)
        passed_on = _where_above(left, shifted - extreme if minimum else extreme - shifted)
        shares.append(left - passed_on if left is gradient else left.sub_(passed_on))
        left = passed_on
    shares.append(left)
    first, second, *others = (
        share.narrow(0, reach - offset, count - 2 * reach) for share, offset in zip(shares, offsets, strict=True)
    )
    routed = first + second
    for other in others:
        routed.add_(other)
    return routed
