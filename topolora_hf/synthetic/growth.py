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
WIDEST_PX = 30.0  # of the structures of networks and of aerial pictures
THINNEST_PX = 1.3  # thinner strokes have gaps in the mask at some angles: no pixel is half covered there


@dataclass(frozen=True)
class Shoot:
    """Where a branch starts: position and width in pixels, heading in radians."""

    x: float
    y: float
    heading: float
    width: float
    clearance: float  # how far, in pixels, it may run beside its neighbours before they stop it


@dataclass(frozen=True)
class TreeStyle:
    """How a tree grows."""

    wander: float  # standard deviation of the heading's change in radians per 10 px
    tortuosity: float  # amplitude in radians of a periodic swing of the heading
    taper: float  # share of its width that a branch loses along itself
    spacing: float  # mean distance between side branches in pixels, for a branch 3 px wide
    max_branches: int


def grow_tree(rng: np.random.Generator, size: int, roots: Sequence[Shoot], style: TreeStyle) -> list[Stroke]:
    """Grow a branching tree inside a square of side `size`, thick branches first.

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
        if not stop.any() and widths[-1] > 1.25 * THINNEST_PX:
            forks += _last_fork(rng, float(widths[-1]))
        for at, width, turn in forks:
            child = Shoot(*points[at], headings[at] + turn, width, widths[at] / 2 + 2.5 * CELL_PX)
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
    side = 1 if rng.random() < 0.5 else -1
    at = int(rng.exponential(style.spacing) / STEP_PX) + 3
    while at < count - 3 and widths[at] > 1.1 * THINNEST_PX:
        child = max(THINNEST_PX, float(widths[at]) * rng.uniform(0.3, 0.75))
        widths[at:] *= max(0.5, 1 - (child / widths[at]) ** 3) ** (1 / 3)
        forks.append((at, child, side * rng.uniform(0.5, 1.35)))
        side = -side if rng.random() < 0.7 else side
        at += int(rng.exponential(style.spacing * max(1.0, widths[at] / 3)) / STEP_PX) + 3
    return np.maximum(widths, THINNEST_PX), forks


def _last_fork(rng: np.random.Generator, width: float) -> list[tuple[int, float, float]]:
    """The two branches that a branch ends in, as above: the thinner one turns more."""
    share = rng.uniform(0.2, 0.65)  # of the cross-section (cubed widths) that goes to the thinner one
    thin, thick = width * share ** (1 / 3), width * (1 - share) ** (1 / 3)
    side = 1 if rng.random() < 0.5 else -1
    opening = rng.uniform(0.6, 1.3)
    thin_turn, thick_turn = side * opening * (1 - share), -side * opening * share
    return [(-1, max(THINNEST_PX, thin), thin_turn), (-1, max(THINNEST_PX, thick), thick_turn)]


def jagged_path(
    rng: np.random.Generator, start: np.ndarray, end: np.ndarray, roughness: float, spacing: float = 3.0
) -> np.ndarray:
    """Draw a self-similar line by midpoint displacement: points (N, 2), x then y, `spacing` pixels apart.

    The first displacement has the standard deviation `roughness`, as a share of the line's length.
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
    return _displaced(start, end, offsets)


def smooth_path(rng: np.random.Generator, start: np.ndarray, end: np.ndarray, bend: float) -> np.ndarray:
    """Draw a gently winding line, points (N, 2); `bend` is its sideways swing as a share of its length."""
    length = float(np.hypot(*(end - start)))
    along = np.linspace(0, 1, max(8, int(length / 6)))
    swings = rng.uniform(-1.7, 1.7, 3) * bend / np.arange(1, 4)
    return _displaced(start, end, length * sum(s * np.sin(np.pi * (k + 1) * along) for k, s in enumerate(swings)))


def _displaced(start: np.ndarray, end: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Evenly spaced points between two, (N, 2), moved sideways by the offsets (N,)."""
    direction = (end - start) / max(float(np.hypot(*(end - start))), 1e-9)
    normal = np.array([-direction[1], direction[0]])
    return np.linspace(start, end, len(offsets)) + offsets[:, None] * normal


def side_branch(
    rng: np.random.Generator, points: np.ndarray, turn: tuple[float, float], reach: tuple[float, float], size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Choose where a branch leaves a line, and where it ends: `turn` radians aside, `reach` of the picture away."""
    at = int(rng.integers(1, len(points) - 1))
    heading = np.arctan2(*(points[at + 1] - points[at - 1])[::-1]) + rng.choice([-1, 1]) * rng.uniform(*turn)
    return points[at], points[at] + rng.uniform(*reach) * size * np.array([np.cos(heading), np.sin(heading)])


def border_point(rng: np.random.Generator, size: int, angle: float, margin: float) -> np.ndarray:
    """The point `margin` pixels outside a circle around the square, at `angle` seen from near its centre."""
    centre = size / 2 + rng.uniform(-0.2, 0.2, 2) * size
    return centre + np.array([np.cos(angle), np.sin(angle)]) * (0.75 * size + margin)
