"""Centrelines that look grown or broken: vessel trees, cracks, winding roads."""

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .strokes import Stroke

STEP_PX = 3.0  # spacing of centreline points of trees
CELL_PX = 4.0  # resolution at which branches of one tree keep out of each other's way
MARGIN_PX = 28.0  # around the picture: branches leave it, and may start there or come back
THINNEST_PX = 1.3  # thinner strokes have gaps in the mask at some angles: no pixel is half covered there


@dataclass(frozen=True)
class Shoot:
    """Where a branch starts: position and width in pixels, heading in radians.

    ``clearance`` is how far, in pixels, it may run beside its neighbours before they stop it.
    """

    x: float
    y: float
    heading: float
    width: float
    clearance: float


@dataclass(frozen=True)
class TreeStyle:
    """How a tree grows.

    Attributes:
        wander: standard deviation of the heading's change in radians per 10 px.
        tortuosity: amplitude in radians of a periodic swing of the heading.
        taper: share of its width that a branch loses along itself.
        spacing: mean distance between side branches in pixels, for a branch 3 px wide.
        max_branches: growth stops here.
    """

    wander: float
    tortuosity: float
    taper: float
    spacing: float
    max_branches: int


def grow_tree(rng: np.random.Generator, size: int, roots: Sequence[Shoot], style: TreeStyle) -> list[Stroke]:
    """Grow a branching tree inside a square of side ``size``, thick branches first.

    Branches of the tree stop before they run into each other, so crossings only come from drawing several trees.
    At a fork the widths follow Murray's law, parent^3 = child_a^3 + child_b^3. Strengths are 1.
    """
    order = itertools.count()
    queue = [(-root.width, next(order), root) for root in roots]
    heapq.heapify(queue)
    margin = int(MARGIN_PX / CELL_PX)
    cells = int(np.ceil(size / CELL_PX)) + 2 * margin
    taken = np.zeros((cells, cells), bool)
    strokes: list[Stroke] = []
    while queue and len(strokes) < style.max_branches:
        _, _, shoot = heapq.heappop(queue)
        points, headings = _walk(rng, shoot, style)
        grid = np.floor(points / CELL_PX).astype(int) + margin
        inside = np.minimum(np.maximum(grid, 0), cells - 1)
        outside = (grid != inside).any(axis=1)
        blocked = taken[inside[:, 1], inside[:, 0]]
        blocked[: int(shoot.clearance / STEP_PX)] = False
        stop = blocked | outside
        length = int(stop.argmax()) if stop.any() else len(points)
        if length < 4:
            continue
        points, headings, grid = points[:length], headings[:length], grid[:length]
        widths, forks = _widths_and_forks(rng, shoot.width, length, style)
        taken[grid[:, 1], grid[:, 0]] = True
        strokes.append(Stroke(points, widths, np.ones(length)))
        for at, width, turn in forks:
            child = Shoot(*points[at], headings[at] + turn, width, widths[at] / 2 + 2.5 * CELL_PX)
            heapq.heappush(queue, (-width, next(order), child))
        if not stop.any() and widths[-1] > 1.25 * THINNEST_PX:
            for width, turn in _fork(rng, float(widths[-1])):
                child = Shoot(*points[-1], headings[-1] + turn, width, widths[-1] / 2 + 2.5 * CELL_PX)
                heapq.heappush(queue, (-width, next(order), child))
    return strokes


def _walk(rng: np.random.Generator, shoot: Shoot, style: TreeStyle) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 2) and headings (N,) of a branch that nothing stops."""
    length = rng.uniform(25, 70) + rng.uniform(6, 22) * shoot.width
    count = max(5, int(length / STEP_PX))
    swing = rng.normal(0, style.wander * np.sqrt(STEP_PX / 10), count).cumsum()
    swing -= swing[0]
    wavelength = rng.uniform(8, 22) + 3 * shoot.width
    along = np.arange(count) * STEP_PX
    amplitude = style.tortuosity * rng.uniform(0.3, 1.0) * min(1.0, 4 / shoot.width)
    headings = shoot.heading + swing + amplitude * np.sin(2 * np.pi * along / wavelength)
    steps = np.stack([np.cos(headings), np.sin(headings)], axis=1) * STEP_PX
    points = np.array([shoot.x, shoot.y]) + steps.cumsum(axis=0) - steps[0]
    return points, headings


def _widths_and_forks(
    rng: np.random.Generator, width: float, count: int, style: TreeStyle
) -> tuple[np.ndarray, list[tuple[int, float, float]]]:
    """Widths along a branch and its side branches as (point index, width, turn in radians)."""
    widths = width * np.linspace(1, 1 - style.taper, count)
    forks = []
    side = _sign(rng)
    at = int(rng.exponential(style.spacing) / STEP_PX) + 3
    while at < count - 3 and widths[at] > 1.1 * THINNEST_PX:
        child = max(THINNEST_PX, float(widths[at]) * rng.uniform(0.3, 0.75))
        widths[at:] *= max(0.5, 1 - (child / widths[at]) ** 3) ** (1 / 3)
        forks.append((at, child, side * rng.uniform(0.5, 1.35)))
        side = -side if rng.random() < 0.7 else side
        at += int(rng.exponential(style.spacing * max(1.0, widths[at] / 3)) / STEP_PX) + 3
    return np.maximum(widths, THINNEST_PX), forks


def _fork(rng: np.random.Generator, width: float) -> list[tuple[float, float]]:
    """The two branches that a branch ends in, as (width, turn): the thinner one turns more."""
    share = rng.uniform(0.2, 0.65)  # of the cross-section (cubed widths) that goes to the thinner one
    thin, thick = width * share ** (1 / 3), width * (1 - share) ** (1 / 3)
    side = _sign(rng)
    opening = rng.uniform(0.6, 1.3)
    return [
        (max(THINNEST_PX, thin), side * opening * (1 - share)),
        (max(THINNEST_PX, thick), -side * opening * share),
    ]


def _sign(rng: np.random.Generator) -> int:
    return 1 if rng.random() < 0.5 else -1


def jagged_path(
    rng: np.random.Generator, start: np.ndarray, end: np.ndarray, roughness: float, spacing: float = 3.0
) -> np.ndarray:
    """A self-similar line from ``start`` to ``end`` by midpoint displacement; points (N, 2), x then y.

    Args:
        rng: source of randomness.
        start: (2,) pixels.
        end: (2,) pixels.
        roughness: standard deviation of the first displacement, as a share of the line's length.
        spacing: distance between points in pixels.
    """
    length = float(np.hypot(*(end - start)))
    halvings = max(1, int(np.ceil(np.log2(max(length / spacing, 2)))))
    offsets = np.zeros(2)
    for level in range(halvings):
        middles = (offsets[:-1] + offsets[1:]) / 2
        middles = middles + rng.normal(0, roughness * length * 0.55**level, len(middles))
        merged = np.empty(len(offsets) + len(middles))
        merged[::2], merged[1::2] = offsets, middles
        offsets = merged
    direction = (end - start) / max(length, 1e-9)
    normal = np.array([-direction[1], direction[0]])
    return np.linspace(start, end, len(offsets)) + offsets[:, None] * normal


def smooth_path(rng: np.random.Generator, start: np.ndarray, end: np.ndarray, bend: float) -> np.ndarray:
    """A gently winding line from ``start`` to ``end``; ``bend`` is its sideways swing as a share of its length."""
    length = float(np.hypot(*(end - start)))
    along = np.linspace(0, 1, max(8, int(length / 6)))
    swings = rng.uniform(-1.7, 1.7, 3) * bend / np.arange(1, 4)
    offsets = length * sum(swing * np.sin(np.pi * (k + 1) * along) for k, swing in enumerate(swings))
    direction = (end - start) / max(length, 1e-9)
    normal = np.array([-direction[1], direction[0]])
    return np.linspace(start, end, len(along)) + offsets[:, None] * normal


def border_point(rng: np.random.Generator, size: int, angle: float, margin: float) -> np.ndarray:
    """The point ``margin`` pixels outside a circle around the square, at ``angle`` seen from near its centre."""
    centre = size / 2 + rng.uniform(-0.2, 0.2, 2) * size
    return centre + np.array([np.cos(angle), np.sin(angle)]) * (0.75 * size + margin)
