"""SAM's attention with decomposed relative positions, exact, without the (heads, N, N) bias that costs its memory.

SAM adds to the scores of query q and key k a bias that depends on q and on the row and the column of k:
`softmax(scale q.k + rel_h[q, row(k)] + rel_w[q, column(k)]) v` (Li et al. 2022, arXiv 2112.01526). transformers
writes the whole bias out, and keeps it for the backward pass. Here are two ways to the same values without it:

- `folded_attention`: `rel_h` and `rel_w` are appended to the queries, and indicators of row and column to the keys.
  That is plain attention, so every fused kernel of `scaled_dot_product_attention` does it. For GPUs.
- `blocked_attention`: a block of queries at a time, whose scores fit the cache; the backward pass computes them again.
  It spares the longer product of the first way, which is what counts on a CPU.

Both take windows as SAM does: a window that reaches beyond the map is filled up with tokens of zeros before the
projection to queries, keys and values, so that all that is left of these tokens here is the projection's bias.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import product

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

# Scores that are held at once by `blocked_attention`: 8 MB in float32. Half and twice as many are no faster.
_SCORES_A_BLOCK = 2**21
# Keys in a row from which relative positions are added by broadcasting. Shorter rows leave a processor's vectors half
# empty: there a product with indicators is faster (bfloat16, 14 x 14: fourteen times).
_WIDE = 32


def vision_attention(attention: nn.Module, tokens: torch.Tensor, window_size: int) -> torch.Tensor:
    """What transformers' `SamVisionAttention` computes, windows included, in the faster way for the device.

    Args:
        attention: a `SamVisionAttention` with relative positions; its `qkv` and `proj` may carry LoRA.
        tokens: (B, H, W, C), normalised, not cut into windows.
        window_size: side of a window in tokens; 0 attends over the whole map.

    Returns:
        (B, H, W, C)
    """
    batch, height, width, channels = tokens.shape
    heads = attention.num_attention_heads
    window = (window_size, window_size) if window_size else (height, width)
    qkv = attention.qkv(tokens).view(batch, height, width, 3, heads, channels // heads)
    padding = attention.qkv(tokens.new_zeros(1, channels)).view(qkv.shape[3:])
    rel_h, rel_w = (
        _relative_positions(side, table).to(qkv.dtype)
        for side, table in zip(window, (attention.rel_pos_h, attention.rel_pos_w), strict=True)
    )
    attend = blocked_attention if tokens.device.type == "cpu" else folded_attention
    return attention.proj(attend(qkv, padding, rel_h, rel_w).flatten(3))


def _relative_positions(side: int, table: torch.Tensor) -> torch.Tensor:
    """(n, d) -> (side, side, d), as transformers' `get_rel_pos`, which copies its indices to the device each time."""
    if len(table) != 2 * side - 1:
        table = F.interpolate(table.T[None], 2 * side - 1, mode="linear")[0].T
    return table[_distances(side, table.device)]


def folded_attention(
    qkv: torch.Tensor, padding: torch.Tensor, rel_h: torch.Tensor, rel_w: torch.Tensor
) -> torch.Tensor:
    """Attention inside windows, by one call of `scaled_dot_product_attention` without a mask.

    Args:
        qkv: (B, H, W, 3, heads, d), queries, keys and values of the map.
        padding: (3, heads, d), the same of a token beyond the map.
        rel_h: (h, h, d), the relative positions of query row and key row in a window of h x w tokens.
        rel_w: (w, w, d), likewise of columns.

    Returns:
        (B, H, W, heads, d)
    """
    batch, height, width, _, heads, dim = qkv.shape
    rows, columns = rel_h.shape[0], rel_w.shape[0]
    down, across = -(-height // rows), -(-width // columns)
    if (down * rows, across * columns) != (height, width):
        padded = padding.expand(batch, down * rows, across * columns, *padding.shape).clone()
        padded[:, :height, :width] = qkv
    else:
        padded = qkv
    windows = padded.view(batch, down, rows, across, columns, 3, heads, dim)
    query, key, value = windows.permute(5, 0, 1, 3, 6, 2, 4, 7).reshape(3, -1, heads, rows, columns, dim)
    by_row, by_column = _relative_scores(query, rel_h, rel_w)
    query = torch.cat([query * dim**-0.5, by_row, by_column], dim=-1).flatten(2, 3)
    indicators = _indicators(rows, columns, key.dtype, key.device)
    key = torch.cat([key.flatten(2, 3), indicators.expand(*key.shape[:2], -1, -1)], dim=-1)
    # Flash kernels want values as wide as the queries.
    value = F.pad(value.flatten(2, 3), (0, rows + columns))
    attended = F.scaled_dot_product_attention(query, key, value, scale=1.0)[..., :dim]
    attended = attended.view(batch, down, across, heads, rows, columns, dim).permute(0, 1, 4, 2, 5, 3, 6)
    return attended.reshape(batch, down * rows, across * columns, heads, dim)[:, :height, :width]


def blocked_attention(
    qkv: torch.Tensor, padding: torch.Tensor, rel_h: torch.Tensor, rel_w: torch.Tensor
) -> torch.Tensor:
    """The same as `folded_attention`, a block of queries at a time; only `qkv` is kept for the backward pass."""
    return _BlockedAttention.apply(qkv, padding, rel_h, rel_w)


class _BlockedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, qkv, padding, rel_h, rel_w):
        ctx.save_for_backward(qkv, padding, rel_h, rel_w)
        window = rel_h.shape[0], rel_w.shape[0]
        attended = torch.empty_like(qkv[:, :, :, 0])
        with torch.autocast(qkv.device.type, enabled=False):
            for region in _regions(qkv.shape, window):
                query, key, value = _cut(qkv[region], padding, window)
                out = torch.empty_like(query)
                for groups, rows in _blocks(query, key):
                    probabilities = _probabilities(query[groups, rows], key[groups], rel_h[rows], rel_w)
                    out[groups, rows] = (probabilities @ value[groups]).view_as(out[groups, rows])
                _put(out, attended[region], window)
        return attended

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        qkv, padding, rel_h, rel_w = ctx.saved_tensors
        window, scale = (rel_h.shape[0], rel_w.shape[0]), qkv.shape[-1] ** -0.5
        grad_qkv = torch.empty_like(qkv)
        # What is summed over blocks is summed in float32.
        grad_padding, grad_rel_h, grad_rel_w = (_float_zeros_like(tensor) for tensor in (padding, rel_h, rel_w))
        for region in _regions(qkv.shape, window):
            query, key, value = _cut(qkv[region], padding, window)
            grad_out = _to_groups(grad[region], window)
            grad_query, grad_key, grad_value = torch.empty_like(query), _float_zeros_like(key), _float_zeros_like(value)
            for groups, rows in _blocks(query, key):
                block, block_grad = query[groups, rows], grad_out[groups, rows].flatten(1, 2)
                probabilities = _probabilities(block, key[groups], rel_h[rows], rel_w)
                grad_value[groups] += probabilities.mT @ block_grad
                grad_scores = torch._softmax_backward_data(
                    block_grad @ value[groups].mT, probabilities, -1, probabilities.dtype
                )
                grad_key[groups] += (grad_scores.mT @ block.flatten(1, 2)) * scale
                by_row, by_column = (part.view(*block.shape[:3], -1) for part in _sum_relative(grad_scores, window))
                grad_block = (grad_scores @ key[groups]).view_as(block) * scale
                grad_block += torch.einsum("grck,rkd->grcd", by_row, rel_h[rows])
                grad_block += torch.einsum("grck,ckd->grcd", by_column, rel_w[: block.shape[2]])
                grad_query[groups, rows] = grad_block
                if ctx.needs_input_grad[2]:
                    grad_rel_h[rows] += torch.einsum("grck,grcd->rkd", by_row, block)
                if ctx.needs_input_grad[3]:
                    grad_rel_w[: block.shape[2]] += torch.einsum("grck,grcd->ckd", by_column, block)
            _put(grad_query, grad_qkv[region][:, :, :, 0], window)
            for part, of_window in ((1, grad_key), (2, grad_value)):
                inside = of_window.unflatten(1, window)[:, : query.shape[1], : query.shape[2]]
                _put(inside, grad_qkv[region][:, :, :, part], window)
                if ctx.needs_input_grad[1]:
                    grad_padding[part] += (of_window.sum(1) - inside.sum((1, 2))).view(-1, *padding.shape[1:]).sum(0)
        return grad_qkv, grad_padding.to(padding.dtype), grad_rel_h.to(rel_h.dtype), grad_rel_w.to(rel_w.dtype)


def _regions(shape: torch.Size, window: tuple[int, int]) -> Iterator[tuple[slice, slice, slice]]:
    """Images, rows and columns of the map that are worked on together.

    They hold whole windows, as many as their scores leave room for; or what windows at the edge have of the map.
    """
    batch, height, width, _, heads, _ = shape
    room = max(1, _SCORES_A_BLOCK // (heads * (window[0] * window[1]) ** 2))
    for columns in _spans(width, window[1], room):
        across = _count(columns.stop - columns.start, window[1])
        for rows in _spans(height, window[0], max(1, room // across)):
            images = max(1, room // (across * _count(rows.stop - rows.start, window[0])))
            for image in range(0, batch, images):
                yield slice(image, image + images), rows, columns


def _spans(length: int, side: int, most: int) -> Iterator[slice]:
    """At most `most` whole windows at a time, then what is left at the edge."""
    whole = length // side
    for first in range(0, whole, most):
        yield slice(first * side, min(first + most, whole) * side)
    if length % side:
        yield slice(whole * side, length)


def _count(length: int, side: int) -> int:
    """Windows along a span; what is left at the edge is one."""
    return max(1, length // side)


def _blocks(query: torch.Tensor, key: torch.Tensor) -> Iterator[tuple[slice, slice]]:
    """Groups and rows of queries, so that each block has about `_SCORES_A_BLOCK` scores."""
    groups, rows, columns, _ = query.shape
    of_a_row = columns * key.shape[1]
    most_rows = min(rows, max(1, _SCORES_A_BLOCK // (of_a_row * min(groups, 2))))
    most_groups = min(groups, max(1, _SCORES_A_BLOCK // (of_a_row * most_rows)))
    for group, row in product(range(0, groups, most_groups), range(0, rows, most_rows)):
        yield slice(group, group + most_groups), slice(row, row + most_rows)


def _cut(
    qkv: torch.Tensor, padding: torch.Tensor, window: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A region's queries (groups, rows, columns, d), and the keys and values (groups, h * w, d) of whole windows."""
    query, key, value = (_to_groups(part, window) for part in qkv.unbind(3))
    if key.shape[1:3] != window:
        inside, windows = (key, value), len(key) // padding.shape[1]
        key, value = (part.repeat(windows, 1)[:, None, None].expand(-1, *window, -1).clone() for part in padding[1:])
        for whole, part in zip((key, value), inside, strict=True):
            whole[:, : part.shape[1], : part.shape[2]] = part
    return query, key.flatten(1, 2), value.flatten(1, 2)


def _by_window(on_map: torch.Tensor, window: tuple[int, int]) -> torch.Tensor:
    """(images, h, w, heads, d) -> (images, down, across, heads, rows, columns, d), a view."""
    down, across = _count(on_map.shape[1], window[0]), _count(on_map.shape[2], window[1])
    return on_map.unflatten(2, (across, -1)).unflatten(1, (down, -1)).permute(0, 1, 3, 5, 2, 4, 6)


def _to_groups(on_map: torch.Tensor, window: tuple[int, int]) -> torch.Tensor:
    """(images, h, w, heads, d) -> (groups, rows, columns, d), contiguous"""
    return _by_window(on_map, window).flatten(0, 3).contiguous()


def _put(groups: torch.Tensor, on_map: torch.Tensor, window: tuple[int, int]) -> None:
    """The inverse of `_to_groups`, written to `on_map`."""
    by_window = _by_window(on_map, window)
    by_window.copy_(groups.unflatten(0, by_window.shape[:4]))


def _probabilities(query: torch.Tensor, key: torch.Tensor, rel_h: torch.Tensor, rel_w: torch.Tensor) -> torch.Tensor:
    """Queries (g, r, c, d) and keys (g, h * w, d) -> attention probabilities (g, r * c, h * w)."""
    scores = (query * query.shape[-1] ** -0.5).flatten(1, 2) @ key.mT
    by_row, by_column = (part.flatten(1, 2) for part in _relative_scores(query, rel_h, rel_w))
    _add_relative(scores, by_row, by_column)
    return torch.softmax(scores, dim=-1)


def _add_relative(scores: torch.Tensor, by_row: torch.Tensor, by_column: torch.Tensor) -> None:
    """Adds (g, n, h) and (g, n, w) to scores (g, n, h * w), in place."""
    rows, columns = by_row.shape[-1], by_column.shape[-1]
    if columns >= _WIDE:
        by_key = scores.unflatten(-1, (rows, columns))
        by_key += by_row[..., None]
        by_key += by_column[..., None, :]
    else:
        indicators = _indicators(rows, columns, scores.dtype, scores.device)
        scores.baddbmm_(torch.cat([by_row, by_column], dim=-1), indicators.T.expand(len(scores), -1, -1))


def _sum_relative(scores: torch.Tensor, window: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The transpose of `_add_relative`: (g, n, h * w) -> sums over rows of keys (g, n, h) and columns (g, n, w)."""
    if window[1] >= _WIDE:
        by_key = scores.unflatten(-1, window)
        return by_key.sum(-1), by_key.sum(-2)
    return (scores @ _indicators(*window, scores.dtype, scores.device)).split(window, dim=-1)


def _relative_scores(
    query: torch.Tensor, rel_h: torch.Tensor, rel_w: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(..., r, c, d) -> (..., r, c, h) and (..., r, c, w): what the row and the column of a key add to its score."""
    by_row = torch.einsum("...rcd,rkd->...rck", query, rel_h)
    by_column = torch.einsum("...rcd,ckd->...rck", query, rel_w[: query.shape[-2]])
    return by_row, by_column


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # what is made while predicting may be kept for a backward pass later
def _distances(side: int, device: torch.device) -> torch.Tensor:
    """(side, side): the row of the table of relative positions for each query and key along one axis."""
    place = torch.arange(side)
    return (place[:, None] - place + side - 1).to(device)


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _indicators(rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """(rows * columns, rows + columns): one-hot row and column of each key of a window."""
    row = torch.eye(rows, dtype=dtype, device=device).repeat_interleave(columns, dim=0)
    column = torch.eye(columns, dtype=dtype, device=device).repeat(rows, 1)
    return torch.cat([row, column], dim=1)


def _float_zeros_like(tensor: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(tensor, dtype=torch.promote_types(tensor.dtype, torch.float32))
