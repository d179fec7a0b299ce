"""How an image is cut: overlapping tiles, blended; or windows, of a network that sees a bounded way."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from tqdm import tqdm

_LONG_WORK = 100  # tiles from which on a bar is shown, in a terminal
_DEVIATION = 0.125  # of the weights, in tiles
_WINDOW = 1280  # side of the largest window: larger ones have fewer margins and need more memory
_LONG_WINDOWS = 4

Corners = Sequence[tuple[int, int]]
# The upper left corners (y, x) of tiles, which are negative where the image is smaller, and their height and width
# -> (B, maps, height, width).
ProbabilitiesOf = Callable[[Corners, tuple[int, int]], torch.Tensor]
Rows = Iterator[tuple[int, torch.Tensor]]


def join_rows(size: Sequence[int], maps: int, device: torch.device, rows: Rows) -> torch.Tensor:
    """All the rows that `Tiles.rows` or `Windows.rows` yields: float32 (maps, H, W) on the device."""
    result = torch.empty(maps, *size, device=device)
    for top, finished in rows:
        result[:, top : top + finished.shape[1]] = finished
    return result


def mirrored(tiles: torch.Tensor, before: int, length: int) -> torch.Tensor:
    """Tiles (B, C, h, w) with `length` rows: the image, `before` rows of it mirrored, and as often as needed; or as is.

    A flat colour around a low image makes a line of the image itself.

    >>> mirrored(torch.arange(3.0).view(1, 1, 3, 1), 2, 8).flatten().int().tolist()
    [1, 0, 0, 1, 2, 2, 1, 0]
    """
    if before <= 0:
        return tiles
    rows = tiles.shape[2]
    place = (torch.arange(length, device=tiles.device) - before) % (2 * rows)
    return tiles.index_select(2, torch.minimum(place, 2 * rows - 1 - place))


@dataclass(frozen=True)
class Tiles:
    """Overlapping tiles, whose probabilities are averaged with Gaussian weights.

    As MONAI's `sliding_window_inference`, but without a floor of the weights. At the image's edges all weights are
    below that floor, so tiles would count alike and their borders would show.

    Attributes:
        tile: Side of a tile. A smaller image lies in the middle of one, mirrored around itself.
        overlap: Of neighbouring tiles, as a fraction of a tile.
        batch: Tiles that run at once; on a GPU, of several rows.
        device: Where the tiles are.
        maps: How many each tile has; each is blended for itself.
    """

    tile: int
    overlap: float
    batch: int
    device: torch.device
    maps: int = 1

    def starts(self, size: Sequence[int]) -> list[int]:
        """The rows at which `rows` can start."""
        return [max(0, start) for start in tile_starts(size[0], self.tile, self.overlap)]

    def rows(self, size: Sequence[int], probabilities_of: ProbabilitiesOf, start: int = 0) -> Rows:
        """Yield rows that are finished.

        Row of tiles by row of tiles: it holds one band, at most as high as a tile.

        Args:
            size: Height and width of the image.
            probabilities_of: What gives the probabilities of tiles.
            start: The first row that is wanted, one of `starts`. Tiles that reach below it are computed again, so what
                follows is the same to the bit as without it.

        Yields:
            top, and float32 (maps, h, W) on the device: the finished rows from `top` on.
        """
        tile, device = self.tile, self.device
        rows, columns = (tile_starts(side, tile, self.overlap) for side in size)
        inside = [slice(max(0, -starts[0]), max(0, -starts[0]) + min(tile, side))
                  for starts, side in zip((rows, columns), size, strict=True)]  # fmt: skip
        from_centre = torch.arange(tile, device=device) - (tile - 1) / 2
        falling = torch.exp(-0.5 * (from_centre / (_DEVIATION * tile)).square())
        weight = (falling[:, None] * falling)[*inside]
        height, width = weight.shape
        band, weights = (torch.zeros(count, height, size[1], device=device) for count in (self.maps, 1))
        hidden = None if len(rows) * len(columns) >= _LONG_WORK else True  # None: where there is no terminal
        together = 1 if device.type == "cpu" else max(1, self.batch // len(columns))
        first = next(number for number, y in enumerate(rows) if y + tile > start) // together * together
        pairs = list(zip(rows, [*rows[1:], size[0]], strict=True))[first:]
        with tqdm(total=len(pairs) * len(columns), desc="tiles", leave=False, disable=hidden) as bar:
            tiles = self._batches(rows[first:], columns, together, probabilities_of)
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

    def _batches(self, rows: Sequence[int], columns: Sequence[int], together: int, probabilities_of: ProbabilitiesOf):
        """The tiles one by one, row by row; each batch is of one row, or of several whole rows."""
        for row in range(0, len(rows), together):
            corners = [(y, x) for y in rows[row : row + together] for x in columns]
            for first in range(0, len(corners), self.batch):
                yield from probabilities_of(corners[first : first + self.batch], (self.tile, self.tile))


def tile_starts(side: int, tile: int, overlap: float) -> list[int]:
    """Where tiles begin along a side, the last at its end.

    >>> tile_starts(600, 256, 0.5), tile_starts(100, 256, 0.5)
    ([0, 128, 256, 344], [-78])
    """
    if side < tile:
        return [-((tile - side) // 2)]
    step = max(1, int(tile * (1 - overlap)))
    return [min(start, side - tile) for start in range(0, side - tile + step, step)]


@dataclass(frozen=True)
class Windows:
    """Each pixel once, in windows with a margin as wide as the network sees.

    What comes out is that of the whole image in one pass; most images are one window.

    Attributes:
        tile: Side of a tile. An image's side that is shorter lies in the middle of one.
        radius: How many pixels the network sees in each direction.
        multiple: Of what the sides of a window are multiples, and its place in the image.
    """

    tile: int
    radius: int
    multiple: int

    def starts(self, size: Sequence[int]) -> list[int]:
        """The rows at which `rows` can start."""
        (begin, down), _ = self._cells(size)
        return [max(0, first + begin) for first, _ in down]

    def rows(self, size: Sequence[int], probabilities_of: ProbabilitiesOf, start: int = 0) -> Rows:
        """Yield rows that are finished, as `Tiles.rows` does."""
        (y0, down), (x0, across) = self._cells(size)
        ends = down[-1][1], across[-1][1]
        down = [cell for cell in down if max(0, cell[0] + y0) >= start]
        hidden = None if len(down) * len(across) >= _LONG_WINDOWS else True
        with tqdm(total=len(down) * len(across), desc="windows", leave=False, disable=hidden) as bar:
            for rows in down:
                row = []
                for columns in across:
                    (top, bottom), (left, right) = map(self._with_margin, (rows, columns), ends)
                    (seen,) = probabilities_of([(top + y0, left + x0)], (bottom - top, right - left))
                    row.append(seen[:, _within(rows, y0, size[0], top), _within(columns, x0, size[1], left)])
                    bar.update()
                yield max(0, rows[0] + y0), torch.cat(row, dim=2)

    def _cells(self, size: Sequence[int]) -> list[tuple[int, list[tuple[int, int]]]]:
        """Of rows and of columns: where the canvas begins in the image, and how it is shared out.

        >>> Windows(256, 160, 8)._cells((584, 4000))
        [(0, [(0, 584)]), (0, [(0, 800), (800, 1600), (1600, 2400), (2400, 3200), (3200, 4000)])]
        """
        begins = [tile_starts(side, self.tile, 0)[0] for side in size]
        height, width = (_rounded_up(max(side, self.tile), self.multiple) for side in size)
        columns = self._shared_out(width, _WINDOW)
        seen = min(width, columns[0][1] + 2 * self.margin)
        return list(zip(begins, (self._shared_out(height, _WINDOW**2 // seen), columns), strict=True))

    def _shared_out(self, length: int, window: int) -> list[tuple[int, int]]:
        if length <= window:
            return [(0, length)]
        count = -(-length // (window - 2 * self.margin))
        return list(pairwise([*range(0, length, _rounded_up(-(-length // count), self.multiple)), length]))

    @property
    def margin(self) -> int:
        """Around what a window gives."""
        return _rounded_up(self.radius, self.multiple)

    def _with_margin(self, cell: tuple[int, int], end: int) -> tuple[int, int]:
        return max(0, cell[0] - self.margin), min(end, cell[1] + self.margin)


def _within(cell: tuple[int, int], begin: int, side: int, first: int) -> slice:
    """Where the part of a cell that lies in the image is in its window."""
    return slice(max(cell[0], -begin) - first, min(cell[1], side - begin) - first)


def _rounded_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
