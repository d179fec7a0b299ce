"""Overlapping tiles, blended with Gaussian weights."""

from collections.abc import Callable, Sequence

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
    probability_of: Callable[[int, Sequence[int]], torch.Tensor],
) -> torch.Tensor:
    """Average the probabilities of overlapping tiles with Gaussian weights.

    As MONAI's `sliding_window_inference`, but without a floor of the weights. At the image's edges all weights are
    below that floor, so tiles would count alike and their borders would show.
    Row of tiles by row of tiles: beside the result it holds one band as high as a tile, whatever the image's size.

    Args:
        size: Height and width, each at least `tile`.
        tile: Side of a tile.
        overlap: Of neighbouring tiles, as a fraction of a tile.
        tile_batch: Tiles that run at once.
        device: Where the tiles are.
        probability_of: The first row and the first columns of a batch of tiles -> (B, tile, tile).

    Returns:
        float32 (H, W) on the CPU.
    """
    rows, columns = (_starts(side, tile, overlap) for side in size)
    from_centre = torch.arange(tile, device=device) - (tile - 1) / 2
    falling = torch.exp(-0.5 * (from_centre / (_DEVIATION * tile)).square())
    weight = falling[:, None] * falling
    result = torch.empty(*size)
    band, weights = (torch.zeros(tile, size[1], device=device) for _ in range(2))
    hidden = None if len(rows) * len(columns) >= _LONG_WORK else True  # None: where there is no terminal
    with tqdm(total=len(rows) * len(columns), desc="tiles", leave=False, disable=hidden) as bar:
        for y, following in zip(rows, [*rows[1:], size[0]], strict=True):
            for first in range(0, len(columns), tile_batch):
                batch = columns[first : first + tile_batch]
                for x, probability in zip(batch, probability_of(y, batch), strict=True):
                    band[:, x : x + tile] += weight * probability
                    weights[:, x : x + tile] += weight
                bar.update(len(batch))
            done = following - y
            result[y:following] = (band[:done] / weights[:done]).cpu()
            band, weights = (F.pad(held[done:], (0, 0, 0, done)) for held in (band, weights))
    return result


def _starts(side: int, tile: int, overlap: float) -> list[int]:
    """Where tiles begin along a side, the last at its end.

    >>> _starts(600, 256, 0.5)
    [0, 128, 256, 344]
    """
    step = max(1, int(tile * (1 - overlap)))
    return [min(start, side - tile) for start in range(0, side - tile + step, step)]
