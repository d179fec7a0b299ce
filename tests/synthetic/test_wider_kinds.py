"""The kinds that are drawn for pretraining alone: networks, variants and aerial pictures."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label
from skimage.morphology import skeletonize

from topolora_hf.synthetic import ALL_KINDS, KINDS, draw_synthetic
from topolora_hf.synthetic.growth import WIDEST_PX
from topolora_hf.synthetic.networks import _mesh
from topolora_hf.synthetic.variants import enlarged

WIDER = [kind for kind in ALL_KINDS if kind not in KINDS]


@pytest.fixture(scope="module")
def samples() -> dict[str, list[dict]]:
    return {kind: [draw_synthetic(index, seed=3, size=192, kinds=[kind]) for index in range(16)] for kind in WIDER}


def step_to_ground(sample: dict) -> float:
    """How much brighter the structure is than what lies beside it, in grey levels."""
    mask = sample["mask"][0] > 0
    beside = ndimage.binary_dilation(mask, iterations=5) & ~ndimage.binary_dilation(mask)
    grey = sample["image"].astype(float).mean(axis=2)
    return grey[mask].mean() - grey[beside].mean()


@pytest.mark.parametrize("kind", WIDER)
@pytest.mark.parametrize("size", [64, 200])
def test_a_sample_keeps_the_contract_and_comes_again(kind, size):
    sample, again = (draw_synthetic(4, size=size, kinds=[kind]) for _ in range(2))
    assert sample["id"] == f"{kind}-000004"
    assert sample["image"].shape == (size, size, 3) and sample["image"].dtype == np.uint8
    assert sample["image"].flags.c_contiguous
    assert set(np.unique(sample["mask"])) == {0, 1} and sample["valid_mask"].all()
    assert all(np.array_equal(sample[key], again[key]) for key in ("image", "mask"))


def test_they_are_drawn_only_where_they_are_asked_for():
    drawn = {draw_synthetic(index, size=64)["id"].split("-")[0] for index in range(40)}
    assert drawn == set(KINDS)


@pytest.mark.parametrize("kind", ["networks", "variants"])
def test_either_polarity_occurs(samples, kind):
    steps = np.array([step_to_ground(sample) for sample in samples[kind]])
    assert (steps > 3).sum() >= 3 and (steps < -3).sum() >= 3


def test_networks_are_of_all_widths(samples):
    widest = []
    for sample in samples["networks"]:
        padded = np.pad(sample["mask"][0], 40, mode="edge")  # a structure cut by the border keeps its width
        distance = ndimage.distance_transform_edt(padded)[40:-40, 40:-40]
        widest.append(np.median(2 * distance[skeletonize(sample["mask"][0] > 0)] - 1))
    assert min(widest) < 3 and 10 < max(widest) < 1.3 * WIDEST_PX


@pytest.mark.parametrize("kind", WIDER)
def test_thin_kinds_leave_most_of_the_picture_free(samples, kind):
    shares = [sample["mask"].mean() for sample in samples[kind]]
    assert max(shares) < 0.6 and np.mean(shares) < 0.25


def test_a_mesh_parts_the_picture_into_cells():
    coverage, _ = _mesh(np.random.default_rng(1), 128, 3.0)
    assert label(coverage < 0.5, connectivity=1, return_num=True)[1] > 8
    assert label(coverage >= 0.5, connectivity=2, return_num=True)[1] <= 3


def test_an_enlarged_mask_stays_on_its_structure():
    image, mask = np.zeros((80, 80, 3), np.uint8), np.zeros((80, 80), bool)
    image[30:36, :], mask[30:36, :] = 200, True
    image, mask = enlarged(image, mask, 240)
    assert image.shape == (240, 240, 3) and mask.mean() == pytest.approx(6 / 80, abs=0.005)
    assert ((image[..., 0] > 100) == mask).mean() > 0.99
