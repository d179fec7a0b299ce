"""The graph of a mask's centrelines: of a mask in memory, or of one that is read by rows."""

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from .geometry import along, drawn_out, edge_distances, off_the_nodes, rays_in, smooth, thinned_out, widths
from .simplifying import simplify
from .thinning import thin
from .tracing import Paths, trace

if TYPE_CHECKING:
    import networkx

RowsOfMask = Callable[[int, int], np.ndarray]
"""`(top, bottom)` -> those rows of a mask, bool (bottom - top, W)."""

_ROWS, _HALO = 4096, 128


def centreline_graph(mask: np.ndarray, prune: bool = True) -> "networkx.MultiGraph":
    """Make the graph of a mask's centrelines, in pixels.

    It is a `MultiGraph`, as two segments may join the same two nodes, and a segment may lead back to its node.

    Nodes: `row` and `column` (of a pixel's centre where they are whole), `degree`, and `kind`: `end`, `branch`, `loop`
    (a place on a loop that nothing else meets) or `isolated` (a piece that thinning reduces to a point).

    Edges, the segments: `polyline` float (N, 2) of rows and columns, about two pixels from point to point, from node
    `start` to node `end`; `widths` float (N,), there; `length` of the polyline; `mean_width`, `min_width` and
    `max_width` outside of the discs of its nodes; `tortuosity`, the length over the distance of its ends, NaN for a
    loop.

    A width is how far the mask reaches to both sides of the line. A segment with a free end runs to the edge of the
    mask.

    Args:
        mask: bool (H, W). Outside it is background.
        prune: Remove spurs shorter than the local width, and fill holes of a single pixel.

    Raises:
        ValueError: The array is no mask.

    >>> mask = np.zeros((20, 50), bool)
    >>> mask[8:13, 5:45] = True
    >>> ((_, _, segment),) = centreline_graph(mask).edges(data=True)
    >>> round(segment["length"], 1), round(segment["mean_width"], 1)
    (40.0, 5.0)
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.dtype != bool:
        raise ValueError(f"expected a mask, bool (H, W); got {mask.dtype} {mask.shape}")
    return graph_of_rows(lambda top, bottom: mask[top:bottom], *mask.shape, prune=prune, rows=max(1, len(mask)))


def graph_of_rows(
    read: RowsOfMask, height: int, width: int, prune: bool = True, rows: int = _ROWS
) -> "networkx.MultiGraph":
    """Make the graph of a mask that is read by rows: that of the whole mask, however many are read at once.

    Only the pixels of the skeleton are held. Each row is read about four times.

    Args:
        read: Gives some rows of the mask.
        height, width: Of the whole mask.
        prune: As for `centreline_graph`.
        rows: How many are worked on at once, with some more above and below.
    """
    read_filled = lru_cache(1)(lambda top, bottom: _filled(read, top, bottom, height) if prune else read(top, bottom))
    paths = simplify(trace(*_skeleton(read_filled, height, width, rows)), prune)
    paths.points[:, :2] = smooth(paths, paths.points[:, :2])
    rays = _rays_by_rows(read_filled, height, rows)
    paths = drawn_out(thinned_out(paths), rays)
    return _as_graph(paths, widths(paths, rays), (height, width))


def joined(graphs: Mapping[str, "networkx.MultiGraph"]) -> "networkx.MultiGraph":
    """Join the graphs of several classes of an image. `class` of nodes and edges says which one they are of."""
    import networkx

    whole = networkx.MultiGraph()
    for label, graph in graphs.items():
        whole.graph |= graph.graph
        first = len(whole)
        part = networkx.relabel_nodes(graph, {node: first + node for node in graph})
        for _, _, segment in part.edges(data=True):
            segment["start"], segment["end"] = first + segment["start"], first + segment["end"]
        networkx.set_node_attributes(part, label, "class")
        networkx.set_edge_attributes(part, label, "class")
        whole.add_nodes_from(part.nodes(data=True))
        whole.add_edges_from(part.edges(data=True))
    whole.graph["classes"] = tuple(graphs)
    return whole


def in_units(graph: "networkx.MultiGraph", pixel_size: float, unit: str) -> "networkx.MultiGraph":
    """Give lengths and widths in a unit; a pixel's side measures `pixel_size` of it. Places stay in pixels."""
    if not 0 < pixel_size < float("inf"):
        raise ValueError(f"pixel_size must be above 0 and finite, got {pixel_size}")
    graph = graph.copy()
    factor = pixel_size / graph.graph["pixel_size"]
    for _, _, segment in graph.edges(data=True):
        for name in ("length", "mean_width", "min_width", "max_width", "widths"):
            segment[name] = segment[name] * factor
    graph.graph |= {"pixel_size": pixel_size, "unit": unit}
    return graph


def _skeleton(read: RowsOfMask, height: int, width: int, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and radii of the skeleton's pixels.

    Thinning looks as far around a pixel as it has subiterations: with fewer rows around, it begins anew with more.
    """
    halo = _HALO
    while True:
        parts, deepest = [], 0
        for top, bottom, above, mask in _strips(read, height, rows, halo):
            skeleton, rounds = thin(mask)
            row, column = np.divmod(np.flatnonzero(skeleton[top - above : bottom - above]), max(width, 1))
            radii = edge_distances(mask, row + top - above, column)
            parts.append((row + top, column, radii))
            deepest = max(deepest, rounds)
        if deepest < halo or rows >= height:
            break
        halo = 2 * max(halo, deepest)
    whole = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return tuple(whole) if whole else (np.zeros(0, int), np.zeros(0, int), np.zeros(0))


def _strips(read: RowsOfMask, height: int, rows: int, halo: int) -> Iterator[tuple[int, int, int, np.ndarray]]:
    """First and last row of each strip, and the first of what is read for it, with that."""
    for top in range(0, height, rows):
        bottom, above = min(height, top + rows), max(0, top - halo)
        yield top, bottom, above, read(above, min(height, bottom + halo))


def _filled(read: RowsOfMask, top: int, bottom: int, height: int) -> np.ndarray:
    """Rows of the mask, its holes of a single pixel filled."""
    above, below = max(0, top - 1), min(height, bottom + 1)
    mask = read(above, below)
    around = np.pad(mask, 1)
    hole = around[:-2, 1:-1] & around[2:, 1:-1]
    hole &= around[1:-1, :-2]
    hole &= around[1:-1, 2:]
    hole |= mask
    return hole[top - above : bottom - above]


def _rays_by_rows(read: RowsOfMask, height: int, rows: int):
    def rays(starts: np.ndarray, directions: np.ndarray, inside: np.ndarray, most: np.ndarray) -> np.ndarray:
        lengths, halo = np.zeros(len(starts)), _HALO * (1 + int(most.max(initial=0)) // (_HALO - 4))
        strip = np.clip(starts[:, 0], 0, height - 1) // rows
        for top, _, above, mask in _strips(read, height, rows, halo):
            here = strip == top // rows
            if here.any():
                measure = rays_in(mask, (above, 0))
                lengths[here] = measure(starts[here], directions[here], inside[here], most[here])
        return lengths

    return rays


def _as_graph(paths: Paths, width: np.ndarray, shape: tuple[int, int]) -> "networkx.MultiGraph":
    import networkx

    graph = networkx.MultiGraph(shape=shape, pixel_size=1.0, unit="px")
    degrees = np.bincount(paths.ends.ravel(), minlength=len(paths.nodes)).tolist()
    kinds = {0: "isolated", 1: "end", 2: "loop"}
    for number, ((row, column, _), degree) in enumerate(zip(paths.nodes.tolist(), degrees, strict=True)):
        graph.add_node(number, row=row, column=column, degree=degree, kind=kinds.get(degree, "branch"))
    counted = off_the_nodes(paths, paths.nodes[:, 2] + 1)
    _, lengths = along(paths)
    if not len(lengths):
        return graph
    starts, places = paths.first[:-1], paths.points[:, :2]
    chords = np.hypot(*(places[paths.first[1:] - 1] - places[starts]).T)
    chords[(paths.ends[:, 0] == paths.ends[:, 1]) | (chords == 0)] = np.nan
    measures = {
        "length": lengths,
        "mean_width": np.add.reduceat(width * counted, starts) / np.add.reduceat(counted.astype(int), starts),
        "min_width": np.minimum.reduceat(np.where(counted, width, np.inf), starts),
        "max_width": np.maximum.reduceat(np.where(counted, width, 0), starts),
        "tortuosity": lengths / chords,
    }
    columns = zip(*(values.tolist() for values in measures.values()), strict=True)
    split = zip(paths.ends.tolist(), columns, paths.split(places), paths.split(width), strict=True)
    for (start, end), own, polyline, widths_ in split:
        named = dict(zip(measures, own, strict=True))
        graph.add_edge(start, end, start=start, end=end, **named, polyline=polyline, widths=widths_)
    return graph
