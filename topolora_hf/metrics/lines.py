"""Scores of lines: of their graphs (APLS, TOPO), of their outlines (surface distances), of their centrelines.

They are computed on request. Distances are in pixels. Arguments and errors are those of `dice`; each score is NaN when
prediction and target are both empty, and the worst when one of them is. What lies outside `valid_mask` is background.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra, maximum_bipartite_matching
from scipy.spatial import cKDTree

from ..graphs import centreline_graph, thin
from . import LINE_SCORES
from .masks import harmonic_mean, masks_inside_field_of_view
from .tolerance import outline

if TYPE_CHECKING:
    import networkx

_CONTROL_PX, _SNAP_PX = 50.0, 4.0
_MARBLE_PX, _EXPLORED_PX, _MATCH_PX = 5.0, 100.0, 5.0


def apls(prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None) -> float:
    """Average path length similarity of the centreline graphs (Van Etten et al. 2018, arXiv 1807.01232).

    For every pair of control points of one graph (its nodes, and points every 50 pixels) that a path joins, the
    relative difference of its length in the other graph, at most 1; and 1 if the other graph has no point within 4
    pixels of an end, or no path. One minus the mean; the harmonic mean of both directions, as in the paper.

    >>> line, gap = np.zeros((9, 200)), np.zeros((9, 200))
    >>> line[4], gap[4, :120], gap[4, 130:] = 1, 1, 1  # of the five control points three lie left of the gap
    >>> apls(line, line), round(apls(gap, line), 2)
    (1.0, 0.57)
    """
    return harmonic_mean(*_of_graphs(prediction, target, valid_mask, _path_similarities))


def topo_precision(prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None) -> float:
    """Of the places that can be reached in the predicted graph, the share that can be in the true one.

    TOPO of Biagioni and Eriksson 2012 ("Inferring road maps from GPS traces", doi:10.3141/2291-08), this variant: seeds
    lie every 50 pixels on the true graph, and on the nearest point of the predicted one, within 5 pixels. From both,
    the graphs are followed for 100 pixels; points every 5 pixels of the ways are matched one to one, within 5 pixels.
    Numbers of points and of matches are summed over the seeds.
    """
    return _of_graphs(prediction, target, valid_mask, _topo)[0]


def topo_recall(prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None) -> float:
    """Of the places that can be reached in the true graph, the share that can be in the predicted one.

    As `topo_precision`; a seed without a predicted point near it has no match.
    """
    return _of_graphs(prediction, target, valid_mask, _topo)[1]


def topo_f1(prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None) -> float:
    """Harmonic mean of `topo_precision` and `topo_recall`."""
    return harmonic_mean(*_of_graphs(prediction, target, valid_mask, _topo))


def nsd(
    prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None, tolerance_px: float = 2.0
) -> float:
    """Normalised surface distance, or surface Dice (Nikolov et al. 2018, arXiv 1809.04430), in the plane.

    The share of both outlines that lies within the tolerance of the other. An outline is the pixels of a mask with a
    4-neighbour outside it, each counted once, as MONAI does; DeepMind's code weights them by their length.
    """
    distances = _outline_distances(prediction, target, valid_mask)
    if distances is None:
        return float("nan")
    both = np.concatenate(distances)
    return float((both <= tolerance_px).mean()) if np.isfinite(both).all() else 0.0


def hd95(prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None) -> float:
    """Hausdorff distance, 95th percentile, as MONAI defines it: the larger of the percentiles of both directions.

    Less is better. The diagonal of the image when one of the masks is empty.
    """
    distances = _outline_distances(prediction, target, valid_mask)
    if distances is None:
        return float("nan")
    if not all(len(own) for own in distances):
        return float(np.hypot(*np.shape(target)))
    return max(float(np.percentile(own, 95)) for own in distances)


def cliou(
    prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None, tolerance_px: float = 4.0
) -> float:
    """Intersection over union of centrelines with a tolerance, by which cracks are scored (Benz and Rodehorst 2024,
    "OmniCrack30k", with 4 pixels), in this variant:

    With precision P, the share of the predicted centreline within the tolerance of the true one, and recall R, the
    share of the true one within the tolerance of the predicted one: P R / (P + R - P R).
    """
    masks = masks_inside_field_of_view(prediction, target, valid_mask)
    distances = _distances(*(np.argwhere(thin(mask)[0]) for mask in masks))
    if distances is None:
        return float("nan")
    found, true = (float((own <= tolerance_px).mean()) if len(own) else 0.0 for own in distances)
    return found * true / (found + true - found * true) if found and true else 0.0


LINE_METRICS = {name: globals()[name] for name in LINE_SCORES}


class _Sampled:
    """A graph as points along its segments and links between neighbours: P points (P, 2), links with lengths."""

    def __init__(self, graph: "networkx.MultiGraph", spacing: float, parts: int = 1):
        number = {node: place for place, node in enumerate(graph)}
        points = [np.array([(own["row"], own["column"]) for _, own in graph.nodes(data=True)]).reshape(-1, 2)]
        links, lengths, count = [], [], len(number)
        for _, _, segment in graph.edges(data=True):
            line = segment["polyline"]
            along = np.append(0, np.hypot(*np.diff(line, axis=0).T).cumsum())
            pieces = parts * max(2 if segment["start"] == segment["end"] else 1, round(along[-1] / spacing))
            inner = np.linspace(0, along[-1], pieces + 1)[1:-1]
            points.append(np.stack([np.interp(inner, along, column) for column in line.T], axis=1))
            chain = [number[segment["start"]], *range(count, count + len(inner)), number[segment["end"]]]
            links += zip(chain[:-1], chain[1:], strict=True)
            lengths += [along[-1] / pieces] * pieces
            count += len(inner)
        self.points = np.concatenate(points)
        self.tree = cKDTree(self.points)
        self._links, self._lengths = np.array(links, int).reshape(-1, 2), np.array(lengths)

    def ways(self, sources: np.ndarray, most: float = np.inf) -> np.ndarray:
        """(S, P), the lengths of the shortest paths from these points."""
        order = np.lexsort((self._lengths, *self._links.T))  # of two links of a pair the shorter
        links, first = np.unique(np.sort(self._links[order], axis=1), axis=0, return_index=True)
        shape = (len(self.points), len(self.points))
        matrix = coo_array((np.maximum(self._lengths[order][first], 1e-9), tuple(links.T)), shape=shape).tocsr()
        return dijkstra(matrix, directed=False, indices=sources, limit=most)


def _of_graphs(
    prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None, measure: Callable
) -> tuple[float, float]:
    """Two shares of a pair of graphs; NaN if both masks are empty, 0 if one is, or has no lines."""
    masks = masks_inside_field_of_view(prediction, target, valid_mask)
    if not any(mask.any() for mask in masks):
        return float("nan"), float("nan")
    graphs = [centreline_graph(mask) for mask in masks]
    return measure(*graphs) if all(graph.number_of_edges() for graph in graphs) else (0.0, 0.0)


def _path_similarities(found: "networkx.MultiGraph", true: "networkx.MultiGraph") -> tuple[float, float]:
    return _path_similarity(found, true), _path_similarity(true, found)


def _path_similarity(graph: "networkx.MultiGraph", other: "networkx.MultiGraph") -> float:
    """One direction of APLS: of the paths of `graph` in `other`."""
    control, fine = _Sampled(graph, _CONTROL_PX), _Sampled(other, _CONTROL_PX, parts=round(_CONTROL_PX))
    ways = control.ways(np.arange(len(control.points)))
    away, nearest = fine.tree.query(control.points)
    found = away <= _SNAP_PX
    theirs = np.full_like(ways, np.inf)
    if found.any():
        theirs[np.ix_(found, found)] = fine.ways(nearest[found])[:, nearest[found]]
    pairs = np.isfinite(ways) & (ways > 0)
    if not pairs.any():
        return 0.0
    with np.errstate(invalid="ignore"):
        return round(float(1 - np.minimum(np.abs(ways - theirs)[pairs] / ways[pairs], 1).mean()), 12)


def _topo(found: "networkx.MultiGraph", true: "networkx.MultiGraph") -> tuple[float, float]:
    found, true = _Sampled(found, _MARBLE_PX), _Sampled(true, _MARBLE_PX)
    seeds = np.arange(0, len(true.points), round(_CONTROL_PX / _MARBLE_PX))
    away, nearest = found.tree.query(true.points[seeds])
    holes = np.isfinite(true.ways(seeds, _EXPLORED_PX))
    marbles = np.isfinite(found.ways(nearest, _EXPLORED_PX)) & (away <= _MATCH_PX)[:, None]
    near = found.tree.sparse_distance_matrix(true.tree, _MATCH_PX, output_type="coo_matrix")
    matches = 0
    for own, theirs in zip(marbles, holes, strict=True):
        both = own[near.row] & theirs[near.col]
        pairs = coo_array((np.ones(both.sum()), (near.row[both], near.col[both])), shape=near.shape).tocsr()
        matches += int((maximum_bipartite_matching(pairs) >= 0).sum())
    return matches / marbles.sum() if marbles.any() else 0.0, matches / holes.sum()


def _outline_distances(prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None):
    masks = masks_inside_field_of_view(prediction, target, valid_mask)
    return _distances(*(np.argwhere(outline(mask)) for mask in masks))


def _distances(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """From each point to the nearest of the other set; infinite if that is empty. None if both are."""
    if not len(one) and not len(other):
        return None
    return tuple(
        cKDTree(there).query(here)[0] if len(there) and len(here) else np.full(len(here), np.inf)
        for here, there in ((one, other), (other, one))
    )
