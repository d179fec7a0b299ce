"""Centrelines of masks as graphs: thinning, tracing, measures, files. It needs a mask and no network."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "files": ["write_csv", "write_geojson", "write_geopackage", "write_graphml", "write_swc"],
        "graph": ["centreline_graph", "graph_of_rows", "in_units", "joined"],
        "thinning": ["thin"],
        "totals": ["fractal_dimension", "graph_totals"],
    },
)
