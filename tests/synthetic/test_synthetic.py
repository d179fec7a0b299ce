"""The synthetic pictures: reproducible, exact, thin where they claim to be thin, and visible."""

import hashlib

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label
from skimage.morphology import skeletonize

from topolora_hf.synthetic import KINDS, draw_synthetic
from topolora_hf.synthetic.blobs import _polyps
from topolora_hf.synthetic.growth import (
    THINNEST_PX,
    Shoot,
    TreeStyle,
    grow_tree,
    jagged_path,
)
from topolora_hf.synthetic.strokes import Stroke, rasterise
from topolora_hf.synthetic.textures import noise, sensor

PICTURES = 12  # of each kind, drawn once for the tests below


@pytest.fixture(scope="module")
def samples() -> dict[str, list[dict]]:
    return {kind: [draw_synthetic(index, seed=3, kinds=[kind]) for index in range(PICTURES)] for kind in KINDS}


def digest(sample: dict) -> str:
    return hashlib.sha256(b"".join(sample[key].tobytes() for key in ("image", "mask", "valid_mask"))).hexdigest()


def stroke(points: list, width: float, strength: float = 1.0) -> Stroke:
    return Stroke(np.array(points, float), np.full(len(points), width), np.full(len(points), strength))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [64, 200, 256])
def test_a_sample_keeps_the_contract(kind, size):
    sample = draw_synthetic(4, size=size, kinds=[kind])
    assert sample["id"] == f"{kind}-000004"
    assert sample["image"].shape == (size, size, 3) and sample["image"].dtype == np.uint8
    assert sample["mask"].shape == (1, size, size) and sample["mask"].dtype == np.uint8
    assert sample["valid_mask"].shape == (size, size) and sample["valid_mask"].dtype == bool
    assert set(np.unique(sample["mask"])) == {0, 1}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_arguments_give_the_same_picture_whatever_was_drawn_before(kind):
    first = digest(draw_synthetic(7, seed=2, size=96, kinds=[kind]))
    np.random.seed(1)  # the global generator must play no part
    draw_synthetic(8, size=64)
    assert digest(draw_synthetic(7, seed=2, size=96, kinds=[kind])) == first


def test_index_and_seed_both_matter():
    # (seed, index) pairs that a sum or a product of the two would confuse
    pairs = [(0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (2, 1), (1, 2), (0, 0)]
    digests = {digest(draw_synthetic(index, seed=seed, size=64, kinds=["vessels"])) for seed, index in pairs}
    assert len(digests) == len(pairs)


def test_a_picture_does_not_depend_on_the_other_kinds_allowed():
    for index in range(4):
        free = draw_synthetic(index, size=64)
        alone = draw_synthetic(index, size=64, kinds=[free["id"].split("-")[0]])
        assert digest(free) == digest(alone)


def test_every_kind_occurs_and_vessels_lead():
    drawn = [draw_synthetic(index, size=64)["id"].split("-")[0] for index in range(150)]
    counts = {kind: drawn.count(kind) for kind in KINDS}
    assert min(counts.values()) >= 5
    assert 0.4 * 150 < counts["vessels"] < 0.7 * 150


def test_only_the_kinds_asked_for_are_drawn():
    drawn = {draw_synthetic(index, size=64, kinds=("roads", "cracks"))["id"].split("-")[0] for index in range(20)}
    assert drawn == {"roads", "cracks"}


def test_a_kind_that_is_named_again_comes_more_often():
    drawn = [draw_synthetic(index, size=64, kinds=["cracks", *["blobs"] * 8])["id"] for index in range(50)]
    assert 30 <= sum(name.startswith("blobs") for name in drawn) < 50  # 4 of 5


@pytest.mark.parametrize("kind, low, high", [("vessels", 0.01, 0.35), ("cracks", 0.002, 0.12), ("roads", 0.01, 0.35)])
def test_thin_kinds_cover_a_small_part_of_the_picture(samples, kind, low, high):
    fractions = [sample["mask"].mean() for sample in samples[kind]]
    assert low < min(fractions) and max(fractions) < high


def test_images_can_go_to_torch_without_a_copy(samples):
    assert all(sample["image"].flags.c_contiguous for kind in KINDS for sample in samples[kind])


def test_blobs_are_compact(samples):
    for sample in samples["blobs"]:
        assert 0.005 < sample["mask"].mean() < 0.8
        assert ndimage.distance_transform_edt(sample["mask"][0]).max() > 5


def widths_along_centrelines(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask, 20, mode="edge")  # a structure cut by the border keeps its width
    distance = ndimage.distance_transform_edt(padded)[20:-20, 20:-20]
    return 2 * distance[skeletonize(mask > 0)] - 1


def test_a_polyp_ends_where_the_endoscopes_picture_does():
    framed = 0
    for seed in range(60):
        image, mask = _polyps(np.random.default_rng(seed), 96)
        assert mask.any()
        patches = label((image == image[0, 0]).all(axis=-1), connectivity=1)
        outside = patches == patches[0, 0]
        if image[0, 0].max() < 12 and outside.mean() > 0.005:
            framed += 1
            assert not mask[outside].any()
    assert framed > 15


def test_vessels_are_thin_and_of_many_widths(samples):
    widths = np.concatenate([widths_along_centrelines(sample["mask"][0]) for sample in samples["vessels"]])
    thin, median, thick = np.percentile(widths, [10, 50, 97])
    assert thin <= 1.5
    assert 1 <= median <= 5
    assert 6 <= thick <= 15


@pytest.mark.parametrize("kind", KINDS)
def test_structures_differ_from_what_is_beside_them(samples, kind):
    for sample in samples[kind]:
        mask = sample["mask"][0] > 0
        beside = ndimage.binary_dilation(mask, iterations=4) & ~ndimage.binary_dilation(mask) & sample["valid_mask"]
        image = sample["image"].astype(float)
        assert np.abs(image[mask].mean(axis=0) - image[beside].mean(axis=0)).max() > 2.5, sample["id"]


def test_image_and_mask_are_aligned(samples):
    aligned = []
    for sample in samples["vessels"]:
        grey = sample["image"].astype(float).sum(axis=2)
        detail = grey - ndimage.gaussian_filter(grey, 6)
        mask = sample["mask"][0] > 0
        at = {
            shift: abs(detail[np.roll(mask, shift, axis=(0, 1)) & sample["valid_mask"]].mean())
            for shift in ((0, 0), (2, 0), (-2, 0), (0, 2), (0, -2))
        }
        aligned.append(max(at, key=at.get) == (0, 0))
    assert np.mean(aligned) > 0.9


def test_nothing_is_foreground_outside_the_field_of_view(samples):
    partial = [sample for sample in samples["vessels"] if not sample["valid_mask"].all()]
    assert 0 < len(partial) < PICTURES
    for sample in partial:
        assert not sample["mask"][:, ~sample["valid_mask"]].any()
        assert sample["image"][~sample["valid_mask"]].mean() < 25
        assert label(sample["valid_mask"], connectivity=1, return_num=True)[1] == 1
    assert all(sample["valid_mask"].all() for kind in ("cracks", "roads", "blobs") for sample in samples[kind])


@pytest.mark.parametrize("width", [1.25, 2.0, 3.5, 8.0])
def test_a_straight_stroke_covers_its_exact_area(width):
    coverage, _ = rasterise([stroke([(-20, 31.3), (84, 31.3)], width)], 64)
    assert coverage.sum(axis=0) == pytest.approx(np.full(64, width), abs=0.26)  # one row of sub-pixels


def test_a_mask_holds_the_pixels_of_which_half_is_covered():
    # Against the distance of a dense grid of points to a slanted segment, computed without PIL.
    start, end, width, size, fine = np.array([5.0, 9.0]), np.array([52.0, 40.0]), 5.0, 64, 16
    coverage, _ = rasterise([stroke([start, end], width)], size)
    points = (np.arange(size * fine) + 0.5) / fine
    x, y = np.meshgrid(points, points)
    along = np.clip(((x - start[0]) * (end - start)[0] + (y - start[1]) * (end - start)[1]) / 3170, 0, 1)
    distance = np.hypot(x - start[0] - along * (end - start)[0], y - start[1] - along * (end - start)[1])
    covered = (distance <= width / 2).reshape(size, fine, size, fine).mean(axis=(1, 3))
    assert np.abs(coverage - covered).mean() < 0.004
    sure = np.abs(covered - 0.5) > 0.15
    assert ((coverage >= 0.5) == (covered >= 0.5))[sure].all()


def test_the_thinnest_stroke_leaves_no_gap_at_any_angle():
    rng = np.random.default_rng(0)
    for angle in np.linspace(0, np.pi, 73):  # the axes and the diagonals among them
        reach = 28 * np.array([np.cos(angle), np.sin(angle)])
        centre = rng.uniform(31, 33, 2)
        coverage, _ = rasterise([stroke([centre - reach, centre, centre + reach], THINNEST_PX)], 64)
        mask = coverage >= 0.5
        assert label(mask, connectivity=2, return_num=True)[1] == 1
        assert widths_along_centrelines(mask.astype(np.uint8)).max() <= 2


def test_the_stronger_stroke_covers_the_weaker_one():
    strong, weak = stroke([(32, -5), (32, 70)], 6, 0.8), stroke([(-5, 32), (70, 32)], 6, 0.4)
    for order in ([strong, weak], [weak, strong]):
        _, strength = rasterise(order, 64)
        assert strength[32, 32] == pytest.approx(0.8, abs=0.01)
        assert strength[32, 10] == pytest.approx(0.4, abs=0.01)


def test_no_stroke_gives_an_empty_canvas():
    coverage, strength = rasterise([], 16)
    assert not coverage.any() and not strength.any()


def test_branches_of_a_tree_get_thinner_and_stay_connected_to_it():
    style = TreeStyle(wander=0.2, tortuosity=0.1, taper=0.2, spacing=20, max_branches=30)
    strokes = grow_tree(np.random.default_rng(4), 256, [Shoot(128, 250, -np.pi / 2, 8.0, 0.0)], style)
    assert 5 < len(strokes) <= 30
    assert all((np.diff(branch.widths) <= 0).all() for branch in strokes)
    assert max(branch.widths[0] for branch in strokes) == 8.0
    coverage, _ = rasterise(strokes, 256)
    assert label(coverage >= 0.5, connectivity=2, return_num=True)[1] == 1


def test_a_jagged_path_joins_its_ends():
    start, end = np.array([3.0, 5.0]), np.array([90.0, 40.0])
    path = jagged_path(np.random.default_rng(0), start, end, roughness=0.05)
    assert path[0] == pytest.approx(start) and path[-1] == pytest.approx(end)
    assert np.hypot(*np.diff(path, axis=0).T).sum() > 1.01 * np.hypot(*(end - start))


def test_noise_is_normalised_and_as_coarse_as_asked():
    rng = np.random.default_rng(0)
    fine, coarse = noise(rng, 128, 4), noise(rng, 128, 40)
    for field in (fine, coarse):
        assert field.mean() == pytest.approx(0, abs=1e-3) and field.std() == pytest.approx(1, abs=1e-3)
    assert np.abs(np.diff(fine)).mean() > 4 * np.abs(np.diff(coarse)).mean()


def test_the_sensor_keeps_the_mean_and_adds_the_grain_asked_for():
    picture = sensor(np.random.default_rng(0), np.full((3, 128, 128), 100, np.float32), grain=8)
    assert picture.mean() == pytest.approx(100, abs=1)
    assert 3 < picture.std() < 9


@pytest.mark.parametrize("kinds", [["vessels", "rivers"], ["Vessels"], "vessels", []])
def test_unknown_or_missing_kinds_are_refused_with_the_names_allowed(kinds):
    with pytest.raises(ValueError, match="vessels, cracks, roads, blobs, .*, or arteries_veins; got"):
        draw_synthetic(0, kinds=kinds)


@pytest.mark.parametrize("name, value", [("index", -1), ("seed", -2), ("size", 63), ("size", 0)])
def test_numbers_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"{name} must be at least .*, got {value}"):
        draw_synthetic(**{"index": 0, name: value})


def test_arteries_and_veins_cross_and_arteries_are_thinner_and_brighter():
    drawn = [draw_synthetic(index, kinds=["arteries_veins"]) for index in range(8)]
    assert all(sample["mask"].shape == (2, 256, 256) and sample["mask"].any(axis=(1, 2)).all() for sample in drawn)
    assert sum((sample["mask"].sum(axis=0) == 2).any() for sample in drawn) >= 6
    widths, brighter = np.zeros(2), 0
    for sample in drawn:
        alone = sample["mask"].sum(axis=0) == 1
        of_class = [sample["image"][(mask == 1) & alone].mean(axis=0) for mask in sample["mask"]]
        brighter += of_class[0][0] > of_class[1][0]  # red
        widths += [widths_along_centrelines(mask).mean() for mask in sample["mask"]]
    assert brighter >= 6 and widths[0] < 0.9 * widths[1]


def test_a_picture_of_two_classes_is_the_same_every_time():
    first, second = (draw_synthetic(3, seed=1, kinds=["arteries_veins"]) for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    with pytest.raises(ValueError, match="or arteries_veins"):
        draw_synthetic(0, kinds=["arteries_veins", "cracks"])
