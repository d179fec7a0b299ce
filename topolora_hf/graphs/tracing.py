"""From the pixels of a skeleton to nodes and the paths between them. Only the skeleton's pixels are held."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, depth_first_order


@dataclass
class Paths:
    """Paths between nodes, one behind the other.

    Attributes:
        nodes: float64 (N, 3): row, column, radius.
        points: float64 (P, 3), likewise: of each path its first node, its pixels, its last node.
        first: int (S + 1,), where each path begins in `points`.
        ends: int (S, 2), the nodes of each path.
    """

    nodes: np.ndarray
    points: np.ndarray
    first: np.ndarray
    ends: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """int (S,), points of each path."""
        return np.diff(self.first)

    @property
    def is_tip(self) -> np.ndarray:
        """bool (P,): the first and the last point of each path."""
        tips = np.zeros(len(self.points), bool)
        tips[self.first[:-1]] = tips[self.first[1:] - 1] = True
        return tips

    def only(self, stays: np.ndarray) -> "Paths":
        """Leave out the points that do not stay, bool (P,)."""
        count = np.append(0, stays.cumsum())
        return Paths(self.nodes, self.points[stays], count[self.first], self.ends)

    def split(self, values: np.ndarray) -> list[np.ndarray]:
        """The values of each path, of (P, ...) values of all points."""
        return np.split(values, self.first[1:-1]) if len(self.ends) else []


def trace(rows: np.ndarray, columns: np.ndarray, radii: np.ndarray) -> Paths:
    """Make one node of each end and of each cluster of branch pixels, and paths of the pixels between them.

    Two pixels are neighbours if they share a side; or a corner, and no pixel of the skeleton lies beside both.

    Args:
        rows, columns: int (M,), the skeleton's pixels, row by row.
        radii: float (M,), the distance of each to the background.
    """
    if not len(rows):
        return Paths(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(1, int), np.zeros((0, 2), int))
    count, values = len(rows), np.stack([rows, columns, radii], axis=1).astype(float)
    links, is_branch = _links(rows, columns)
    degree = np.bincount(links.ravel(), minlength=count)
    is_node = is_branch | (degree != 2)
    pieces = _components(count, links)
    has_node = np.zeros(count, bool)
    has_node[pieces[is_node]] = True
    numbers, firsts = np.unique(pieces, return_index=True)
    is_node[firsts[~has_node[numbers]]] = True  # of a loop that nothing meets, its first pixel

    clusters = _clusters(count, links[is_branch[links].all(axis=1)])
    node_of = np.full(count, -1)
    node_of[is_node] = np.unique(clusters[is_node], return_inverse=True)[1]
    members = np.bincount(node_of[is_node])
    nodes = np.stack([np.bincount(node_of[is_node], column[is_node]) for column in values.T], axis=1)
    nodes /= np.maximum(members, 1)[:, None]

    ends_on_node = is_node[links]
    order, starts, path_ends = _ordered(links, ends_on_node, node_of, ~is_node)
    direct = node_of[links[ends_on_node.all(axis=1)]]
    direct = direct[direct[:, 0] != direct[:, 1]]
    return _joined(nodes, values[order], starts, np.concatenate([path_ends, direct]))


def _links(rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of neighbours, int (L, 2); and bool (M,), whether paths meet at a pixel.

    They do where it has more than two neighbours, or is of a full block of two by two. The upper side of a block is
    left out of the pairs, so that there are as many circles of them as holes in the skeleton.
    """
    count, width = len(rows), int(columns.max(initial=0)) + 3
    keys = rows.astype(np.int64) * width + columns + 1
    here = np.arange(count)
    padded = np.append(keys, -1)

    def at(key: np.ndarray, place: np.ndarray) -> np.ndarray:
        return np.where(padded[np.minimum(place, count)] == key, place, -1)

    right = at(keys + 1, here + 1)
    below_left = np.searchsorted(keys, keys + width - 1)
    left_below = at(keys + width - 1, below_left)
    below = at(keys + width, below_left + (left_below >= 0))
    below_right = at(keys + width + 1, below_left + (left_below >= 0) + (below >= 0))
    has_left = np.zeros(count, bool)
    has_left[right[right >= 0]] = True
    block = (right >= 0) & (below >= 0) & (below_right >= 0)
    in_block = np.zeros(count, bool)
    for corner in (here, right, below, below_right):
        in_block[corner[block]] = True
    alone = below < 0
    wanted = (
        (right, (right >= 0) & block),
        (right, (right >= 0) & ~block),
        (below, below >= 0),
        (below_right, (below_right >= 0) & alone & (right < 0)),
        (left_below, (left_below >= 0) & alone & ~has_left),
    )
    upper, *others = [np.stack([here[has], there[has]], axis=1) for there, has in wanted]
    links = np.concatenate(others)
    return links, in_block | (np.bincount(np.concatenate([upper, links]).ravel(), minlength=count) > 2)


def _components(count: int, links: np.ndarray) -> np.ndarray:
    """int (count,), the number of each pixel's connected piece."""
    matrix = coo_array((np.ones(len(links), bool), (links[:, 0], links[:, 1])), shape=(count, count))
    return connected_components(matrix, directed=False)[1]


def _clusters(count: int, links: np.ndarray) -> np.ndarray:
    """The pieces of branch pixels. One around a hole stays as its pixels: the hole would be lost."""
    pieces = _components(count, links)
    has_hole = np.bincount(pieces[links[:, 0]], minlength=count) >= np.bincount(pieces, minlength=count)
    alone = has_hole[pieces]
    return np.where(alone, count + np.arange(count), pieces)


def _ordered(
    links: np.ndarray, on_node: np.ndarray, node_of: np.ndarray, is_path: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Order the pixels between nodes path by path: their indices (Q,), where each path starts (S,), its nodes (S, 2).

    A walk along all paths, each one's last pixel linked to the first of the next, meets them in order.
    """
    pixels = np.flatnonzero(is_path)
    number = np.full(len(is_path), -1)
    number[pixels] = np.arange(len(pixels))
    inner = number[links[~on_node.any(axis=1)]]
    path = _components(len(pixels), inner)
    # Each path leaves to a node at two places, which may be of one pixel.
    leaving = links[on_node.sum(axis=1) == 1]
    flip = is_path[leaving[:, 1]]
    leaving[flip] = leaving[flip][:, ::-1]
    leaving = leaving[np.argsort(path[number[leaving[:, 0]]], kind="stable")].reshape(-1, 2, 2)
    tips, ends = number[leaving[:, :, 0]], node_of[leaving[:, :, 1]]
    if not len(pixels):
        return pixels, np.zeros(0, int), ends
    walk = np.concatenate([inner, np.stack([tips[:-1, 1], tips[1:, 0]], axis=1)])
    both = np.concatenate([walk, walk[:, ::-1]])
    shape = (len(pixels), len(pixels))
    matrix = coo_array((np.ones(len(both), bool), (both[:, 0], both[:, 1])), shape=shape).tocsr()
    order = depth_first_order(matrix, tips[0, 0], directed=True, return_predecessors=False)
    starts = np.concatenate([[0], np.bincount(path).cumsum()[:-1]])
    return pixels[order], starts, ends


def _joined(nodes: np.ndarray, points: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> Paths:
    """Put its nodes before and behind the points of each path; paths behind the last start have no points."""
    sizes = np.diff(np.append(starts, len(points)))
    sizes = np.concatenate([sizes, np.zeros(len(ends) - len(sizes), sizes.dtype)]) + 2
    first = np.concatenate([[0], sizes.cumsum()])
    paths = Paths(nodes, np.empty((first[-1], 3)), first, ends)
    paths.points[~paths.is_tip] = points
    paths.points[first[:-1]], paths.points[first[1:] - 1] = nodes[ends[:, 0]], nodes[ends[:, 1]]
    return paths
