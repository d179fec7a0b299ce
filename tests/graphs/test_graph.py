"""The graph of any mask: what it holds, that rows read apart give the same, and masks at the limits."""

import networkx
import numpy as np
import pytest
from drawing import bar, drawn, line, ring
from scipy import ndimage

from topolora_hf.graphs import centreline_graph, fractal_dimension, graph_of_rows, graph_totals, in_units, joined
from topolora_hf.synthetic import draw_synthetic


def vessels(seed=0, size=256):
    return draw_synthetic(seed, size=size, kinds=["vessels"])["mask"][0] == 1


def noise(seed, size=(90, 130)):
    generator = np.random.default_rng(seed)
    return ndimage.gaussian_filter(generator.normal(size=size), generator.uniform(0.7, 2.5)) > 0


@pytest.mark.parametrize("seed", range(12))
def test_without_pruning_there_are_as_many_loops_as_holes_and_as_many_pieces(seed):
    mask = noise(seed)
    holes = ndimage.label(np.pad(~mask, 1, constant_values=True))[1] - 1
    graph = centreline_graph(mask, prune=False)
    assert graph_totals(graph)["loops"] == holes
    assert networkx.number_connected_components(graph) == ndimage.label(mask, np.ones((3, 3)))[1]


@pytest.mark.parametrize("mask", [noise(1), vessels()], ids=["noise", "vessels"])
def test_segments_hold_what_is_said_of_them(mask):
    graph = centreline_graph(mask)
    assert graph.number_of_edges() > 10
    points = np.concatenate([line for *_, line in graph.edges(data="polyline")])
    assert mask[tuple(np.clip(np.round(points).astype(int), 0, np.array(mask.shape) - 1).T)].mean() > 0.9
    for start, end, segment in graph.edges(data=True):
        assert {start, end} == {segment["start"], segment["end"]}
        line = segment["polyline"]
        for node, point in ((segment["start"], line[0]), (segment["end"], line[-1])):
            assert (graph.nodes[node]["row"], graph.nodes[node]["column"]) == tuple(point)
        length = np.hypot(*np.diff(line, axis=0).T).sum()
        assert segment["length"] == pytest.approx(length)
        assert segment["min_width"] <= segment["mean_width"] <= segment["max_width"]
        assert len(segment["widths"]) == len(line)
        if start != end:
            assert segment["tortuosity"] == pytest.approx(length / np.hypot(*(line[-1] - line[0])))
    for node, own in graph.nodes(data=True):
        assert own["degree"] == graph.degree(node) and own["degree"] != 2 or own["kind"] == "loop"


def test_widths_times_lengths_are_the_area_and_what_branches_share_of_their_stems():
    mask = vessels(3, 400)
    totals = graph_totals(centreline_graph(mask))
    assert 0.98 < totals["length"] * totals["mean_width"] / mask.sum() < 1.25
    shapes = [ring((150, 150), radius, width) for radius, width in ((20, 3), (50, 12), (90, 7), (130, 20))]
    apart = drawn(*shapes, size=(300, 300))
    totals = graph_totals(centreline_graph(apart))
    assert totals["length"] * totals["mean_width"] == pytest.approx(apart.sum(), rel=0.01)


@pytest.mark.parametrize("rows", [7, 64, 150])
@pytest.mark.parametrize("prune", [True, False])
def test_a_mask_read_by_rows_has_the_same_graph(rows, prune):
    mask = vessels(2)
    mask[100:112, 5:250] = True
    whole = centreline_graph(mask, prune)
    reads = []

    def read(top, bottom):
        reads.append(bottom - top)
        return mask[top:bottom]

    parts = graph_of_rows(read, *mask.shape, prune=prune, rows=rows)
    assert networkx.utils.nodes_equal(whole.nodes(data=True), parts.nodes(data=True))
    for (*ends, one), (*others, other) in zip(whole.edges(data=True), parts.edges(data=True), strict=True):
        assert ends == others and all(np.array_equal(one[name], other[name], equal_nan=True) for name in one)
    assert max(reads) <= rows + 2 * 128 + 2


def test_rows_are_read_again_with_more_around_them_where_structures_are_wide():
    mask = drawn(bar((20, 160), (300, 160), 200), size=(320, 320))
    one = graph_totals(graph_of_rows(lambda top, bottom: mask[top:bottom], *mask.shape, rows=60))
    assert one == graph_totals(centreline_graph(mask))


def test_spurs_are_pruned_and_longer_branches_stay():
    shape = [line(0, 9, centre=(60, 120), length=200)]
    spur, branch = bar((60, 120), (53, 120), 3), bar((60, 120), (40, 120), 3)
    count = [graph_totals(centreline_graph(drawn(*shape, own, size=(120, 240))))["segments"] for own in (spur, branch)]
    assert count == [1, 3]
    assert graph_totals(centreline_graph(drawn(*shape, spur, size=(120, 240)), prune=False))["segments"] > 1


def test_two_segments_may_join_the_same_nodes():
    mask = drawn(ring((60, 60), 30, 3), line(0, 3, centre=(60, 60), length=110), size=(120, 120))
    mask[56:65, 35:85] = False
    graph = centreline_graph(mask)
    assert sorted(dict(graph.degree).values()) == [1, 1, 3, 3]
    assert max(graph.number_of_edges(*pair) for pair in graph.edges()) == 2
    assert graph_totals(graph)["loops"] == 1


@pytest.mark.parametrize(
    "mask, nodes, segments",
    [
        (np.zeros((30, 40), bool), 0, 0),
        (np.zeros((0, 5), bool), 0, 0),
        (np.ones((1, 1), bool), 1, 0),
        (np.ones((1, 60), bool), 2, 1),
        (np.ones((60, 1), bool), 2, 1),
        (np.ones((2, 2), bool), 1, 0),
    ],
    ids=["empty", "no rows", "one pixel", "a row", "a column", "a square"],
)
def test_masks_at_the_limits(mask, nodes, segments):
    graph = centreline_graph(mask)
    assert (graph.number_of_nodes(), graph.number_of_edges()) == (nodes, segments)
    assert graph_totals(graph)["length"] == pytest.approx(60 * segments)


def test_a_mask_that_is_all_foreground_has_a_graph():
    totals = graph_totals(centreline_graph(np.ones((80, 120), bool)))
    assert totals["segments"] >= 1 and totals["length"] == pytest.approx(120, rel=0.2)


def test_lines_that_the_border_cuts_end_at_it():
    mask = drawn(bar((20, -20), (20, 220), 5), bar((-20, 150), (120, 150), 4), size=(100, 200))
    totals = graph_totals(centreline_graph(mask))
    assert (totals["segments"], totals["branch_points"], totals["end_points"]) == (4, 1, 4)
    assert totals["length"] == pytest.approx(300, rel=0.01)


def test_units_scale_lengths_and_widths_and_not_places():
    graph = centreline_graph(vessels())
    scaled = in_units(graph, 0.5, "mm")
    pixels, millimetres = graph_totals(graph), graph_totals(scaled)
    assert millimetres["length"] == pytest.approx(pixels["length"] / 2)
    assert millimetres["mean_width"] == pytest.approx(pixels["mean_width"] / 2)
    assert millimetres["density"] == pytest.approx(pixels["density"] * 2)
    assert millimetres["tortuosity"] == pytest.approx(pixels["tortuosity"])
    assert graph_totals(in_units(scaled, 1, "px"))["length"] == pytest.approx(pixels["length"])
    with pytest.raises(ValueError, match="pixel_size must be above 0"):
        in_units(graph, 0, "mm")


def test_classes_are_pieces_of_one_graph():
    one, other = centreline_graph(vessels(0)), centreline_graph(vessels(1))
    graph = joined({"artery": one, "vein": other})
    assert len(graph) == len(one) + len(other)
    for label, own in (("artery", one), ("vein", other)):
        assert graph_totals(graph, label=label) == pytest.approx(graph_totals(own), nan_ok=True)


def test_fractal_dimensions_of_a_line_and_of_a_triangle_of_sierpinski():
    straight = np.stack([np.arange(0, 1024, 2.0), np.full(512, 3.0)], axis=1)
    assert fractal_dimension([straight]) == pytest.approx(1, abs=0.05)
    corners, points = np.array([(0, 0), (0, 1023), (1023, 0)], float), []

    def divide(triangle, depth):
        if depth == 0:
            points.append(np.concatenate([np.linspace(triangle[k], triangle[k - 1], 9) for k in range(3)]))
            return
        for corner in range(3):
            divide((triangle + triangle[corner]) / 2, depth - 1)

    divide(corners, 6)
    assert fractal_dimension(points) == pytest.approx(np.log(3) / np.log(2), abs=0.05)
    assert np.isnan(fractal_dimension([straight[:5]]))


@pytest.mark.slow  # skan compiles itself first
def test_the_length_is_that_of_skan_on_the_same_pixels_without_its_steps():
    skan = pytest.importorskip("skan")
    from topolora_hf.graphs import thin
    from topolora_hf.graphs.geometry import along
    from topolora_hf.graphs.tracing import trace

    mask = vessels(5, 400)
    skeleton = thin(mask)[0]
    theirs = skan.summarize(skan.Skeleton(skeleton), separator="_")
    rows, columns = np.nonzero(skeleton)
    paths = trace(rows, columns, np.zeros(len(rows)))
    assert along(paths)[1].sum() == pytest.approx(theirs.branch_distance.sum(), rel=0.005)
    ours = graph_totals(centreline_graph(mask))["length"]
    assert 0.93 < ours / theirs.branch_distance.sum() < 1.01  # steps of 1 and sqrt 2 are too long by up to 8 %
