"""Files of a graph of centrelines: CSV, GraphML, GeoJSON, GeoPackage, SWC. Each is written whole or not at all."""

import csv
import io
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..files import whole_file, write_file

if TYPE_CHECKING:
    import networkx

SEGMENT_COLUMNS = (
    "segment", "class", "start", "end", "length", "mean_width", "min_width", "max_width", "tortuosity",
    "start_row", "start_column", "end_row", "end_column",
)  # fmt: skip
_MEASURES = SEGMENT_COLUMNS[4:9]
_TREE_RADIUS = 2  # a width is two radii


def write_csv(graph: "networkx.MultiGraph", path: str | Path) -> None:
    """Write a row a segment: its nodes, measures in the graph's unit, and its ends in pixels. NaN is empty."""
    text = io.StringIO(newline="")
    columns = [name for name in SEGMENT_COLUMNS if name != "class" or "classes" in graph.graph]
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_segments(graph))
    write_file(Path(path), text.getvalue().encode())


def write_graphml(graph: "networkx.MultiGraph", path: str | Path) -> None:
    """Write nodes and edges with their measures, without polylines, as GraphML. NaN is left out."""
    import networkx

    plain = networkx.MultiGraph(unit=graph.graph["unit"], pixel_size=graph.graph["pixel_size"])
    plain.add_nodes_from(graph.nodes(data=True))
    for own in _segments(graph):
        values = {name: own[name] for name in ("segment", "class", *_MEASURES) if own.get(name, "") != ""}
        plain.add_edge(own["start"], own["end"], **values)
    with whole_file(path) as temporary:
        networkx.write_graphml_xml(plain, temporary)


def write_geojson(graph: "networkx.MultiGraph", path: str | Path, place: object | None = None) -> None:
    """Write segments and nodes as GeoJSON: in longitude and latitude (RFC 7946), or without a place in pixels.

    In pixels, x is the column and y the row, downward; `coordinates` of the collection says so. A place is a `Place` of
    `topolora_hf.data.place`.
    """
    digits, features = 9 if place else 3, []
    for _, kind, lines, columns in _layers(graph, place.lonlat if place else lambda points: points[:, ::-1]):
        for line, *values in zip(lines, *columns.values(), strict=True):
            geometry = {"type": kind, "coordinates": np.round(line, digits).tolist()}
            known = {name: None if value == "" else value for name, value in zip(columns, values, strict=True)}
            features.append({"type": "Feature", "geometry": geometry, "properties": known})
    whole = {"type": "FeatureCollection", "unit": graph.graph["unit"], "features": features}
    if place is None:
        whole["coordinates"] = "pixels: column, row (downward)"
    write_file(Path(path), json.dumps(whole, allow_nan=False).encode())


def write_geopackage(graph: "networkx.MultiGraph", path: str | Path, place: object) -> None:
    """Write a GeoPackage of two layers, `segments` and `nodes`, in the raster's coordinate system.

    Raises:
        ImportError: pyogrio or shapely is not installed.
    """
    try:
        import shapely
        from pyogrio.raw import write
    except ImportError as error:
        raise ImportError(f"a GeoPackage needs pyogrio and shapely: pip install 'topolora_hf[geo]' ({error})") from None
    crs = place.crs.to_wkt() if place.crs else None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "graph.gpkg")
        for layer, kind, lines, columns in _layers(graph, place.map_points):
            geometry = np.array([shapely.to_wkb(getattr(shapely, kind)(line)) for line in lines], dtype=object)
            write(
                file, geometry, [_array(*column) for column in columns.items()], list(columns), layer=layer,
                driver="GPKG", geometry_type=kind, crs=crs, append=file.exists(),
            )  # fmt: skip
        write_file(Path(path), file.read_bytes())


def write_swc(graph: "networkx.MultiGraph", path: str | Path) -> int:
    """Write the polylines as a forest in SWC, the format of neuron tracings. Return how many loops were cut.

    A line is: number, type (0), x (column), y (row), z (0), radius, number of the parent or -1, in the graph's unit.
    SWC knows no loops: a segment that closes one ends where it would meet the tree again, unconnected.
    """
    import networkx

    size, rows, cuts = graph.graph["pixel_size"], [], 0

    def add(point: np.ndarray, width: float, parent: int) -> int:
        row, column = point * size
        rows.append(f"{len(rows) + 1} 0 {column:.6g} {row:.6g} 0 {width / _TREE_RADIUS:.6g} {parent}")
        return len(rows)

    for piece in networkx.connected_components(graph):
        root = min(piece, key=lambda node: (graph.degree(node) != 1, node))
        widths = [segment["widths"][0] for *_, segment in graph.edges(root, data=True)]
        number_of = {root: add(_where(graph, root), max(widths, default=0), -1)}
        for node, other, points, own in _walk(graph, root):
            closes, parent = other in number_of, number_of[node]
            cuts += closes
            for point, width in zip(points[: len(points) - closes], own, strict=False):
                parent = add(point, width, parent)
            number_of.setdefault(other, parent)
    unit = graph.graph["unit"]
    head = f"# centrelines of topolora_hf, in {unit}; {cuts} loops are cut\n# number type x y z radius parent\n"
    write_file(Path(path), (head + "".join(f"{row}\n" for row in rows)).encode())
    return cuts


def _walk(graph: "networkx.MultiGraph", root: int) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """Each segment of a piece once: a node that was reached, the other one, and points and widths behind the first."""
    waiting, reached, done = [root], {root}, set()
    while waiting:
        node = waiting.pop()
        for _, other, key, segment in graph.edges(node, keys=True, data=True):
            name = (min(node, other), max(node, other), key)
            if name in done:
                continue
            done.add(name)
            step = 1 if segment["start"] == node else -1
            yield node, other, segment["polyline"][::step][1:], segment["widths"][::step][1:]
            if other not in reached:
                reached.add(other)
                waiting.append(other)


def _segments(graph: "networkx.MultiGraph") -> list[dict]:
    """The segments in their order, from 0, with what is written of each; what is NaN is empty."""
    found = []
    for number, (_, _, segment) in enumerate(graph.edges(data=True)):
        row = {name: segment.get(name, "") for name in ("class", "start", "end", *_MEASURES)}
        row = {name: "" if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}
        for end, (down, across) in (("start", segment["polyline"][0]), ("end", segment["polyline"][-1])):
            row |= {f"{end}_row": round(float(down), 3), f"{end}_column": round(float(across), 3)}
        found.append({"segment": number, **row})
    return found


def _layers(graph: "networkx.MultiGraph", to_map: Callable) -> list[tuple[str, str, Sequence, dict[str, list]]]:
    """Name, kind, places on the map (all brought there at once) and columns of the segments, and of the nodes."""
    segments, known = _segments(graph), ("class",) if "classes" in graph.graph else ()
    polylines = [segment["polyline"] for _, _, segment in graph.edges(data=True)]
    points = np.concatenate([*polylines, np.array([_where(graph, node) for node in graph]).reshape(-1, 2)])
    moved = to_map(points) if len(points) else points
    *lines, points = np.split(moved, np.cumsum([len(line) for line in polylines]))
    of_segments = {name: [own[name] for own in segments] for name in ("segment", *known, *_MEASURES)}
    of_nodes = {name: [own for _, own in graph.nodes(data=name)] for name in (*known, "kind", "degree")}
    return [
        ("segments", "LineString", lines, of_segments),
        ("nodes", "Point", points, {"node": list(graph), **of_nodes}),
    ]


def _where(graph: "networkx.MultiGraph", node: int) -> np.ndarray:
    own = graph.nodes[node]
    return np.array([own["row"], own["column"]])


def _array(name: str, values: list) -> np.ndarray:
    if name in _MEASURES:
        return np.array([math.nan if value == "" else value for value in values], float)
    return np.array(values, object if name in ("class", "kind") else np.int64)
