"""Graphs of centrelines: drawn over their image and coloured by width, as plain lines, and as histograms."""

import os
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from .figures import BLUE, new_figure, save_figure, unit_rgb

if TYPE_CHECKING:
    import networkx

_LONGEST_SIDE = 2000  # of the image under a graph, in pixels
_INCHES = 8
_BINS = 40
_OF_WIDTHS = (1, 99)  # percentiles at the ends of the colours


def draw_lines(graph: "networkx.MultiGraph", width: int = 1) -> np.ndarray:
    """Draw the segments as lines of some pixels: bool (H, W)."""
    height, across = graph.graph["shape"]
    picture = Image.new("1", (across, height))
    draw = ImageDraw.Draw(picture)
    for _, _, segment in graph.edges(data=True):
        draw.line([tuple(point) for point in segment["polyline"][:, ::-1].tolist()], fill=1, width=width, joint="curve")
    return np.array(picture)


def save_graph_picture(path: str | os.PathLike, image: np.ndarray, graph: "networkx.MultiGraph") -> None:
    """Save the graph over its image, which is made grey: segments in the colour of their width, nodes as dots.

    Args:
        path: Its ending says the kind of picture.
        image: uint8 (H, W, 3) or (H, W), of the mask's size, or smaller in proportion.
        graph: The bar of colours has its unit. One without segments gives the image alone.
    """
    from matplotlib.collections import LineCollection

    height, width = graph.graph["shape"]
    grey = Image.fromarray(image).convert("L")
    grey.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    across, down = _INCHES * np.array([width, height]) / max(width, height)
    figure = new_figure(max(across, 2) + 1.2, max(down, 2))
    axes = figure.add_subplot(xticks=[], yticks=[], facecolor="black")
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255, alpha=0.6, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    segments = [segment for _, _, segment in graph.edges(data=True)]
    if segments:
        lines = [segment["polyline"][:, ::-1] for segment in segments]
        pieces = np.concatenate([np.stack([line[:-1], line[1:]], axis=1) for line in lines])
        widths = np.concatenate([(segment["widths"][1:] + segment["widths"][:-1]) / 2 for segment in segments])
        low, high = np.percentile(widths, _OF_WIDTHS)
        drawn = LineCollection(pieces, array=widths, cmap="viridis", linewidths=1.2, capstyle="round", clim=(low, high))
        axes.add_collection(drawn)
        figure.colorbar(drawn, ax=axes, shrink=0.8, label=f"width [{graph.graph['unit']}]", extend="both")
        branches = [(own["column"], own["row"]) for _, own in graph.nodes(data=True) if own["kind"] == "branch"]
        if branches:
            axes.plot(*np.transpose(branches), "o", color="white", markersize=2, markeredgewidth=0)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    save_figure(figure, path)


def save_graph_histograms(path: str | os.PathLike, graph: "networkx.MultiGraph") -> None:
    """Save how widths and lengths of the segments are spread: widths as the length that has them.

    Of several classes each has a line of its own.
    """
    figure = new_figure(8, 3.2)
    left, right = figure.subplots(1, 2)
    unit = graph.graph["unit"]
    labels = graph.graph.get("classes", (None,))
    everything = [segment for _, _, segment in graph.edges(data=True)]
    of_class = {label: [own for own in everything if label is None or own["class"] == label] for label in labels}
    for axes, name, ylabel in ((left, "mean_width", f"length [{unit}]"), (right, "length", "segments")):
        values = np.array([segment[name] for segment in everything])
        edges = np.linspace(0, max(values.max(initial=0), 1e-9), _BINS + 1)
        for label, own in of_class.items():
            weights = [segment["length"] for segment in own] if axes is left else None
            counts, _ = np.histogram([segment[name] for segment in own], edges, weights=weights)
            look = {"color": unit_rgb(BLUE), "fill": True, "alpha": 0.7} if len(labels) == 1 else {"linewidth": 1.5}
            axes.stairs(counts, edges, label=label, **look)
        axes.set(xlabel=f"{'width' if axes is left else 'length of a segment'} [{unit}]", ylabel=ylabel)
        axes.grid(alpha=0.3)
        if len(labels) > 1:
            axes.legend(frameon=False)
    save_figure(figure, path)
