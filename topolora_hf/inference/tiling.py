"""Overlapping tiles, blended with Gaussian weights."""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from tqdm import tqdm

_LONG_WORK = 100  # tiles from which on a bar is shown, in a terminal
_DEVIATION = 0.125  # of the weights, in tiles


def blend_tiles(
    size: Sequence[int],
    tile: int,
    overlap: float,
    tile_batch: int,
    device: torch.device,
    probabilities_of: Callable[[Sequence[tuple[int, int]]], torch.Tensor],
    maps: int = 1,
) -> torch.Tensor:
    """All rows of `blend_rows`, whose arguments these are.

    Returns:
        float32 (maps, H, W) on the device.
    """
    result = torch.empty(maps, *size, device=device)
    for top, rows in blend_rows(size, tile, overlap, tile_batch, device, probabilities_of, maps):
        result[:, top : top + rows.shape[1]] = rows
    return result


def blend_rows(
    size: Sequence[int],
    tile: int,
    overlap: float,
    tile_batch: int,
    device: torch.device,
    probabilities_of: Callable[[Sequence[tuple[int, int]]], torch.Tensor],
    maps: int = 1,
    start: int = 0,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Average the probabilities of overlapping tiles with Gaussian weights, and yield rows that are finished.

    As MONAI's `sliding_window_inference`, but without a floor of the weights. At the image's edges all weights are
    below that floor, so tiles would count alike and their borders would show.
    Row of tiles by row of tiles: it holds one band, at most as high as a tile.

    Args:
        size: Height and width of the image.
        tile: Side of a tile. A smaller image lies in the middle of one.
        overlap: Of neighbouring tiles, as a fraction of a tile.
        tile_batch: Tiles that run at once; on a GPU, of several rows.
        device: Where the tiles are.
        probabilities_of: The upper left corners (y, x) of a batch of tiles -> (B, maps, tile, tile). A corner is
            negative where the image is smaller than a tile.
        maps: How many each tile has; each is blended for itself.
        start: The first row that is wanted, one of those that were yielded as `top`. Tiles that reach below it are
            computed again, so what follows is the same to the bit as without it.

    Yields:
        top, and float32 (maps, h, W) on the device: the finished rows from `top` on.
    """
    rows, columns = (tile_starts(side, tile, overlap) for side in size)
    inside = [slice(max(0, -starts[0]), max(0, -starts[0]) + min(tile, side))
              for starts, side in zip((rows, columns), size, strict=True)]  # fmt: skip
    from_centre = torch.arange(tile, device=device) - (tile - 1) / 2
    falling = torch.exp(-0.5 * (from_centre / (_DEVIATION * tile)).square())
    weight = (falling[:, None] * falling)[*inside]
    height, width = weight.shape
    band, weights = (torch.zeros(count, height, size[1], device=device) for count in (maps, 1))
    hidden = None if len(rows) * len(columns) >= _LONG_WORK else True  # None: where there is no terminal
    together = 1 if device.type == "cpu" else max(1, tile_batch // len(columns))
    first = next(number for number, y in enumerate(rows) if y + tile > start) // together * together
    pairs = list(zip(rows, [*rows[1:], size[0]], strict=True))[first:]
    with tqdm(total=len(pairs) * len(columns), desc="tiles", leave=False, disable=hidden) as bar:
        tiles = _batches(rows[first:], columns, together, tile_batch, probabilities_of)
        for y, following in pairs:
            for x in columns:
                left = max(0, x)
                band[..., left : left + width] += weight * next(tiles)[..., *inside]
                weights[..., left : left + width] += weight
                bar.update()
            y = max(0, y)
            done = following - y
            if y >= start:
                yield y, band[:, :done] / weights[:, :done]
            band, weights = (F.pad(held[:, done:], (0, 0, 0, done)) for held in (band, weights))


def _batches(rows: Sequence[int], columns: Sequence[int], together: int, tile_batch: int, probabilities_of: Callable):
    """The tiles one by one, row by row; each batch is of one row, or of several whole rows."""
    for row in range(0, len(rows), together):
        corners = [(y, x) for y in rows[row : row + together] for x in columns]
        for first in range(0, len(corners), tile_batch):
            yield from probabilities_of(corners[first : first + tile_batch])


def tile_starts(side: int, tile: int, overlap: float) -> list[int]:
    """Where tiles begin along a side, the last at its end.

    >>> tile_starts(600, 256, 0.5), tile_starts(100, 256, 0.5)
    ([0, 128, 256, 344], [-78])
    """
    if side < tile:
        return [-((tile - side) // 2)]
    step = max(1, int(tile * (1 - overlap)))
    return [min(start, side - tile) for start in range(0, side - tile + step, step)]
