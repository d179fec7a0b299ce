"""From centrelines to pixels: ribbons of varying width, drawn with area coverage, so that the mask is exact."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

SUPERSAMPLING = 4  # sub-pixels along a pixel's side: coverage comes in steps of 1/16


@dataclass(frozen=True)
class Stroke:
    """A centreline with a width at each of its N >= 2 points.

    The pixel in row r and column c covers `[c, c + 1) x [r, r + 1)`.
    """

    points: np.ndarray  # (N, 2) float, x then y in pixels
    widths: np.ndarray  # (N,) float, full widths in pixels
    strengths: np.ndarray  # (N,) float, 0 < strength <= 1: how clearly each part shows in the image

    def scaled(self, factor: float) -> "Stroke":
        """The same centreline with all widths multiplied by `factor`."""
        return replace(self, widths=self.widths * factor)


def rasterise(strokes: Sequence[Stroke], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw strokes on a square canvas. Of two that overlap, the stroke of larger mean strength covers the other.

    Returns:
        `(coverage, strength)`, float32 (size, size): the covered share of each pixel's area, 0 to 1, and the
        strength drawn there times that share. `coverage >= 0.5` is the exact mask.

    >>> bar = Stroke(np.array([[-5.0, 4.0], [15.0, 4.0]]), np.full(2, 3.0), np.ones(2))
    >>> coverage, _ = rasterise([bar], 10)
    >>> coverage[:, 5].round(2).tolist()
    [0.0, 0.0, 0.5, 1.0, 1.0, 0.5, 0.0, 0.0, 0.0, 0.0]
    """
    canvas = Image.new("L", (size * SUPERSAMPLING, size * SUPERSAMPLING))
    if strokes:
        _draw_ribbons(ImageDraw.Draw(canvas), sorted(strokes, key=lambda stroke: stroke.strengths.mean()))
    covered = canvas.point([0] + [255] * 255)
    # An eight-bit mean of 128 stands for 8 of 16 sub-pixels: halves round up, into the mask.
    return tuple(np.asarray(layer.reduce(SUPERSAMPLING), np.float32) / 255 for layer in (covered, canvas))


def _draw_ribbons(draw: ImageDraw.ImageDraw, strokes: Sequence[Stroke]) -> None:
    """One polygon a segment, in order: a whole outline would leave holes where a tight bend folds it over itself."""
    # PIL's coordinates are those of sub-pixel centres; and it fills the outline too: half a sub-pixel on either side.
    points = np.concatenate([stroke.points for stroke in strokes]) * SUPERSAMPLING - 0.5
    radii = np.concatenate([stroke.widths for stroke in strokes]) * (SUPERSAMPLING / 2) - 0.5
    radii = np.maximum(radii, 0.5)
    fills = np.concatenate([stroke.strengths for stroke in strokes]) * 255 + 0.5
    fills = np.maximum(fills, 1).astype(int).tolist()
    lasts = np.cumsum([len(stroke.points) for stroke in strokes]) - 1
    firsts = np.concatenate([[0], lasts[:-1] + 1])

    tangents = np.empty_like(points)
    tangents[1:-1] = points[2:] - points[:-2]
    tangents[firsts] = points[firsts + 1] - points[firsts]
    tangents[lasts] = points[lasts] - points[lasts - 1]
    tangents /= np.maximum(np.hypot(tangents[:, 0], tangents[:, 1]), 1e-9)[:, None]
    offsets = np.stack([-tangents[:, 1], tangents[:, 0]], axis=1) * radii[:, None]
    left, right = points + offsets, points - offsets
    quads = np.rint(np.concatenate([left[:-1], left[1:], right[1:], right[:-1]], axis=1)).astype(int).tolist()
    caps = np.concatenate([points - radii[:, None], points + radii[:, None]], axis=1)
    for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
        for at in range(first, last):
            draw.polygon(quads[at], fill=fills[at])
        for at in (first, last):
            draw.ellipse(caps[at].tolist(), fill=fills[at])
