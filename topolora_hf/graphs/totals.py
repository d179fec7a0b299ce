"""What a graph of centrelines comes to: length, density, counts, loops, widths, tortuosity, fractal dimension."""

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import networkx

_SMALLEST_BOX, _FEWEST_BOXES = 4, 3


def graph_totals(graph: "networkx.MultiGraph", area: float | None = None, label: str | None = None) -> dict:
    """Measure a whole graph, or one class of it.

    Args:
        graph: As of `centreline_graph`, in its own unit.
        area: Of the field of view, in pixels; by default the whole image.
        label: A class of the graph.

    Returns:
        `length`; `density`, the length per area; `segments`; `branch_points` (nodes of three or more segments);
        `end_points`; `loops`, the number of independent ones (edges - nodes + pieces); `mean_width` and `tortuosity`,
        means over the segments weighted by length; `fractal_dimension`, as `fractal_dimension` says. NaN where there is
        nothing to measure.

    >>> from topolora_hf.graphs import centreline_graph
    >>> cross = np.zeros((41, 41), bool)
    >>> cross[20], cross[:, 20] = True, True
    >>> totals = graph_totals(centreline_graph(cross))
    >>> totals["segments"], totals["branch_points"], totals["end_points"], totals["loops"], totals["length"]
    (4, 1, 4, 0, 82.0)
    """
    import networkx

    if label is not None:
        graph = graph.subgraph([node for node, own in graph.nodes(data="class") if own == label])
    segments = [segment for _, _, segment in graph.edges(data=True)]
    degrees = np.array([degree for _, degree in graph.degree], int)
    lengths = np.array([segment["length"] for segment in segments])
    height, width = graph.graph["shape"]
    area = (height * width if area is None else area) * graph.graph["pixel_size"] ** 2
    length = float(lengths.sum())
    return {
        "length": length,
        "density": length / area if area else math.nan,
        "segments": len(segments),
        "branch_points": int((degrees > 2).sum()),
        "end_points": int((degrees == 1).sum()),
        "loops": len(segments) - len(graph) + networkx.number_connected_components(graph),
        "mean_width": _mean(segments, "mean_width", lengths),
        "tortuosity": _mean(segments, "tortuosity", lengths),
        "fractal_dimension": fractal_dimension([segment["polyline"] for segment in segments]),
    }


def fractal_dimension(polylines: list[np.ndarray]) -> float:
    """Box-counting dimension of lines, (N, 2) each (Russell, Hanson and Ott 1980, doi:10.1103/PhysRevLett.45.1175).

    The slope of log(boxes that a line enters) over log(1 / side), by least squares. Sides are 4, 8, 16, ... pixels up
    to a quarter of the longer side of what the lines cover, where the first box begins. NaN with fewer than three.
    """
    if not polylines:
        return math.nan
    ends = np.cumsum([len(line) for line in polylines])[:-1] - 1
    points = np.concatenate(polylines)
    middle = (points[1:] + points[:-1]) / 2  # points are two pixels apart: no box of four is leapt over but at a corner
    points = np.concatenate([points, np.delete(middle, ends, axis=0)])
    points = points - points.min(0)
    largest = points.max() / 4
    sides = [2**power for power in range(int(math.log2(_SMALLEST_BOX)), 31) if 2**power <= largest]
    if len(sides) < _FEWEST_BOXES:
        return math.nan
    counts = [len(np.unique((points // side) @ np.array([2**31, 1]))) for side in sides]
    return float(-np.polyfit(np.log(sides), np.log(counts), 1)[0])


def _mean(segments: list[dict], name: str, lengths: np.ndarray) -> float:
    values = np.array([segment[name] for segment in segments])
    known = ~np.isnan(values) & (lengths > 0)
    return float(np.average(values[known], weights=lengths[known])) if known.any() else math.nan
