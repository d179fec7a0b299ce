"""The files of a graph of centrelines, named as those of its image."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..data.errors import DataError
from ..graphs import write_csv, write_geojson, write_geopackage, write_graphml, write_swc
from ..pictures.graphs import save_graph_histograms, save_graph_picture
from .files import file_a_class

if TYPE_CHECKING:
    import networkx

    from ..data.place import Place

GRAPH_FILES = (
    "_segments.csv",
    "_graph.graphml",
    ".swc",
    "_graph.geojson",
    "_graph.gpkg",
    "_graph.png",
    "_histogram.png",
)


def swc_files(folder: Path, name: str, classes: Sequence[str]) -> dict[str | None, Path]:
    """The SWC of each class, `NAME_artery.swc`; of one class, None, `NAME.swc`."""
    whole = folder / f"{name}.swc"
    return dict(zip(classes, file_a_class(whole, classes), strict=True)) if classes else {None: whole}


def save_graph(
    graph: "networkx.MultiGraph",
    folder: Path,
    name: str,
    image: np.ndarray | None = None,
    place: "Place | None" = None,
    vector: str = "geojson",
) -> list[Path]:
    """Write a graph as table, GraphML, SWC (a file a class), and lines for a GIS; with an image as pictures, too.

    Args:
        graph: Of one class or several.
        folder: Where; the names are `NAME` with the endings in `GRAPH_FILES`.
        name: See there.
        image: uint8 (H, W) or (H, W, 3), what the graph is drawn over.
        place: Where on the map the image lies.
        vector: geojson or gpkg.

    Returns:
        The paths.

    Raises:
        DataError: A GeoPackage without a transform to the map.
        ImportError: A GeoPackage without pyogrio or shapely.
    """
    table, graphml, _, geojson, package, picture, histogram = (folder / f"{name}{ending}" for ending in GRAPH_FILES)
    place = place if place and place.transform else None
    if vector == "gpkg":
        if place is None:
            raise DataError("nothing says where on the map it lies, so there is no GeoPackage: use --vector geojson")
        write_geopackage(graph, package, place)
    else:
        try:
            write_geojson(graph, geojson, place if place and place.crs else None)
        except DataError as error:
            raise DataError(f"{error}: use --vector gpkg, which keeps the system") from error
    write_csv(graph, table)
    write_graphml(graph, graphml)
    trees = swc_files(folder, name, graph.graph.get("classes", ()))
    for label, tree in trees.items():
        own = [node for node, of_class in graph.nodes(data="class") if of_class == label]
        write_swc(graph.subgraph(own), tree)
    written = [table, graphml, *trees.values(), package if vector == "gpkg" else geojson]
    if image is not None:
        save_graph_picture(picture, image, graph)
        save_graph_histograms(histogram, graph)
        written += [picture, histogram]
    return written
