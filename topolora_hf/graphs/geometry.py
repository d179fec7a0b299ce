"""Paths at sub-pixel precision: smoothed, drawn out to the mask's edge, and with a width at each point."""

from collections.abc import Callable

import numpy as np
from scipy.spatial import cKDTree

from .tracing import Paths

_SHRINK, _GROW = 0.5, -0.53  # Taubin 1995, "A signal processing approach to fair surface design": no net shrinking
_SMOOTHINGS = 8
_STEP = 0.5  # of rays, in pixels
_BESIDE = 2.0  # how much farther than its radius a ray looks for the edge, in pixels

Rays = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""`(starts (N, 2), directions (N, 2), inside (N,), most (N,))` -> how far each ray runs inside the mask, (N,): at least
`inside`, where nothing is read, and at most `most`."""


def edge_distances(mask: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """float64 (N,): Euclidean distance of pixels to the mask's edge, half a pixel before the next background pixel.

    What lies outside the mask's array is background.
    """
    if not len(rows):
        return np.zeros(0)
    around = np.pad(mask, 1)
    edge = np.zeros_like(around)
    for near, far in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        edge[near] |= around[far]
        edge[far] |= around[near]
    places = np.flatnonzero(edge & ~around)
    tree = cKDTree(
        np.column_stack(np.divmod(places, around.shape[1])), leafsize=32, balanced_tree=False, compact_nodes=False
    )
    return tree.query(np.column_stack([rows + 1, columns + 1]))[0] - 0.5


def rays_in(mask: np.ndarray, corner: tuple[int, int] = (0, 0)) -> Rays:
    """Measure along rays in a mask whose first pixel lies at `corner`.

    The length is the integral of the mask, read between pixels bilinearly, up to where it becomes 0, or grows again.
    """
    around = np.pad(mask, 2).view(np.uint8)
    width, (below, right) = around.shape[1], (side - 2 for side in around.shape)
    flat, (up, left) = around.ravel(), (2 - side for side in corner)

    def value(row: np.ndarray, column: np.ndarray) -> np.ndarray:
        above, before = np.floor(row), np.floor(column)
        down, across = row - above, column - before
        place = np.clip(above.astype(np.int64) + up, 0, below) * width
        place += np.clip(before.astype(np.int64) + left, 0, right)
        first, second, third, fourth = (flat[place + step].astype(float) for step in (0, 1, width, width + 1))
        upper, lower = first + (second - first) * across, third + (fourth - third) * across
        return upper + (lower - upper) * down

    def rays(starts: np.ndarray, directions: np.ndarray, inside: np.ndarray, most: np.ndarray) -> np.ndarray:
        length, running, before = inside.copy(), np.arange(len(starts)), np.ones(len(starts))
        row, column = (starts + directions * (inside + _STEP / 2)[:, None]).T.copy()
        step_down, step_across = (directions * _STEP).T.copy()
        steps = ((most - inside) / _STEP).astype(int)
        for number in range(steps.max(initial=0)):
            here = value(row, column)
            goes_on = np.flatnonzero((here > 0) & ((before >= 0.5) | (here <= before)) & (steps[running] > number))
            running, before = running[goes_on], here[goes_on]
            if not len(running):
                break
            length[running] += before * _STEP
            row, column = row[goes_on] + step_down[running], column[goes_on] + step_across[running]
        return length

    return rays


def smooth(paths: Paths, values: np.ndarray, rounds: int = _SMOOTHINGS, grow: float = _GROW) -> np.ndarray:
    """Smooth (P, ...) values along each path; its ends stay."""
    values = values.copy()
    weights = ~paths.is_tip[1:-1].reshape(-1, *[1] * (values.ndim - 1)) * 0.5
    for factor in (_SHRINK, grow) * rounds:
        if factor:
            values[1:-1] += factor * weights * (values[:-2] + values[2:] - 2 * values[1:-1])
    return values


def thinned_out(paths: Paths) -> Paths:
    """Keep the ends, and every second point; every other one of these is moved halfway to the next.

    Otherwise the points of a diagonal line would all lie on the centres of pixels, and widths there on one side of what
    they are between.
    """
    place = np.arange(len(paths.points)) - np.repeat(paths.first[:-1], paths.sizes)
    points = paths.points.copy()
    between = np.flatnonzero((place % 4 == 2) & ~paths.is_tip)
    points[between] = (points[between] + paths.points[between + 1]) / 2
    return Paths(paths.nodes, points, paths.first, paths.ends).only((place % 2 == 0) | paths.is_tip)


def along(paths: Paths) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each point from the start of its path (P,), and the length of each path (S,)."""
    if not len(paths.ends):
        return np.zeros(len(paths.points)), np.zeros(0)
    steps = np.hypot(*np.diff(paths.points[:, :2], axis=0, prepend=paths.points[:1, :2]).T)
    steps[paths.first[:-1]] = 0
    total = steps.cumsum()
    distance = total - np.repeat(total[paths.first[:-1]], paths.sizes)
    return distance, distance[paths.first[1:] - 1]


def drawn_out(paths: Paths, rays: Rays) -> Paths:
    """Let paths that end freely run on to the edge of the mask.

    Thinning stops about half a width before it, and often turns into a corner there: the last half width is replaced by
    a straight line.
    """
    if not len(paths.ends):
        return paths
    degree = np.bincount(paths.ends.ravel(), minlength=len(paths.nodes))
    distance, lengths = along(paths)
    whole = np.repeat(lengths, paths.sizes)
    points, nodes, stays = paths.points.copy(), paths.nodes.copy(), np.ones(len(paths.points), bool)
    place, last = np.arange(len(points)), paths.first[1:] - 1
    for side, tips in ((0, paths.first[:-1]), (1, last)):
        free = degree[paths.ends[:, side]] == 1
        way = distance if side == 0 else whole - distance
        # The line is straight from behind the last point that lies nearer to the tip than 1.6 times its radius: a way
        # into a corner has 1.4 times the radius that it comes from. And one farther point, for the direction.
        bent = (way < 1.6 * (points[:, 2] - 0.5)) & (way <= whole / 2)
        begin = _farthest_from_tip(paths, side, bent, tips)
        begin = np.where(way[begin] <= lengths / 2, begin, tips)
        near = way < np.repeat(way[begin] + 2 * points[begin, 2] + 4, paths.sizes)
        behind = _farthest_from_tip(paths, side, near, tips)
        start, from_ = paths.points[begin, :2], paths.points[behind, :2]
        direction = start - from_
        size = np.hypot(*direction.T)
        free &= size > 0
        direction = direction[free] / size[free, None]
        radius = paths.points[begin[free], 2]
        reach = rays(start[free], direction, np.maximum(radius - 1, 0), way[begin][free] + radius + _BESIDE)
        points[tips[free], :2] = start[free] + direction * reach[:, None]
        nodes[paths.ends[free, side], :2] = points[tips[free], :2]
        dropped = (place >= np.repeat(begin + 1, paths.sizes)) if side else (place <= np.repeat(begin - 1, paths.sizes))
        stays &= ~(dropped & np.repeat(free, paths.sizes))
        stays[tips] = True
    return Paths(nodes, points, paths.first, paths.ends).only(stays)


def widths(paths: Paths, rays: Rays) -> np.ndarray:
    """float64 (P,): at each point, how far the mask reaches to both sides, across the path."""
    if not len(paths.ends):
        return np.zeros(len(paths.points))
    place = np.arange(len(paths.points))
    before = np.maximum(place - 2, np.repeat(paths.first[:-1], paths.sizes))
    after = np.minimum(place + 2, np.repeat(paths.first[1:] - 1, paths.sizes))
    tangent = paths.points[after, :2] - paths.points[before, :2]
    size = np.hypot(*tangent.T)
    tangent /= np.where(size > 0, size, 1)[:, None]
    across = np.column_stack([-tangent[:, 1], tangent[:, 0]])
    starts, inside = paths.points[:, :2], np.maximum(paths.points[:, 2] - _BESIDE / 2, 0)
    most = inside + 2 * _BESIDE
    both = rays(
        *(np.concatenate(pair) for pair in ((starts, starts), (across, -across), (inside, inside), (most, most)))
    )
    found = both[: len(starts)] + both[len(starts) :]
    for tip, inward in ((paths.first[:-1], 1), (paths.first[1:] - 1, -1)):  # rays at a tip run along its edge
        long = tip[paths.sizes > 4]
        found[long] = found[long + inward] = found[long + 2 * inward]
    return smooth(paths, found, rounds=3, grow=0)


def off_the_nodes(paths: Paths, reach: np.ndarray) -> np.ndarray:
    """bool (P,): points farther than `reach` (N,) from the nodes of their path; where there are none, the farthest."""
    distance, lengths = along(paths)
    margin = np.minimum(
        distance - np.repeat(reach[paths.ends[:, 0]], paths.sizes),
        np.repeat(lengths - reach[paths.ends[:, 1]], paths.sizes) - distance,
    )
    best = np.maximum.reduceat(margin, paths.first[:-1]) if len(paths.ends) else margin
    return (margin >= 0) | (margin == np.repeat(best, paths.sizes))


def _farthest_from_tip(paths: Paths, side: int, near: np.ndarray, tips: np.ndarray) -> np.ndarray:
    """(S,) index of the first point behind those near the tip: the first point of a path (side 0) or its last."""
    place = np.arange(len(paths.points))
    if side == 0:
        found = np.maximum.reduceat(np.where(near, place, -1), paths.first[:-1]) + 1
        return np.where(found > 0, np.minimum(found, paths.first[1:] - 1), tips)
    found = np.minimum.reduceat(np.where(near, place, len(place)), paths.first[:-1]) - 1
    return np.where(found < len(place) - 1, np.maximum(found, paths.first[:-1]), tips)
