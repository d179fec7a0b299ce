import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.losses.cldice import soft_skel
from skimage.morphology import skeletonize

from topolora_hf.objective import soft_skeleton_with_core, soft_skeletonize


def skeleton_by_definition(image: np.ndarray, iterations: int) -> np.ndarray:
    """Shit et al. 2021, algorithm 1, in NumPy: minima and maxima over neighbourhoods, outside the image nothing."""

    def neighbours(values: np.ndarray, offsets: list[tuple[int, int]], outside: float) -> np.ndarray:
        height, width = values.shape
        padded = np.pad(values, 1, constant_values=outside)
        return np.stack([padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width] for dy, dx in offsets])

    cross = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)]
    square = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]

    def erode(values):
        return neighbours(values, cross, np.inf).min(axis=0)

    def open_(values):
        return neighbours(erode(values), square, -np.inf).max(axis=0)

    skeleton = np.maximum(image - open_(image), 0)
    for _ in range(iterations):
        image = erode(image)
        residue = np.maximum(image - open_(image), 0)
        skeleton = skeleton + np.maximum(residue - skeleton * residue, 0)
    return skeleton


def random_map(height: int, width: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def bar(rows: slice, side: int = 32) -> torch.Tensor:
    image = torch.zeros(1, 1, side, side)
    image[..., rows, 4:-4] = 1
    return image


@pytest.mark.parametrize("iterations", [0, 1, 3, 12])
@pytest.mark.parametrize("shape", [(17, 23), (32, 32), (1, 9), (2, 2)])
def test_it_is_the_definition_exactly(shape, iterations):
    images = random_map(*shape)
    skeletons = soft_skeletonize(images, iterations)
    for image, skeleton in zip(images.flatten(0, 1), skeletons.flatten(0, 1), strict=True):
        assert np.array_equal(skeleton.numpy(), skeleton_by_definition(image.numpy(), iterations))


@pytest.mark.parametrize("iterations", [0, 4])
def test_it_is_monais_with_its_gradient(iterations):
    ours = random_map(24, 24).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    weights = random_map(24, 24, seed=1)
    (soft_skeletonize(ours, iterations) * weights).sum().backward()
    (soft_skel(theirs, iterations) * weights).sum().backward()
    assert torch.equal(soft_skeletonize(ours, iterations), soft_skel(theirs, iterations))
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("function", [soft_skeletonize, soft_skeleton_with_core])
def test_the_gradient_is_right_away_from_ties(function):
    values = torch.randperm(64, generator=torch.Generator().manual_seed(0)).double() / 64  # all different
    image = values.reshape(1, 1, 8, 8).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: function(x, 2), image, eps=1e-6)


@pytest.mark.parametrize("width", [1, 2, 3, 6, 10])
def test_a_bars_skeleton_lies_on_its_middle_rows(width):
    image = bar(slice(8, 8 + width))
    skeleton = soft_skeletonize(image, iterations=(width + 1) // 2 - 1)[0, 0]
    middle = skeleton[:, 12:20].amax(dim=1).nonzero().flatten().tolist()
    assert middle == sorted({8 + (width - 1) // 2, 8 + width // 2})
    hard = torch.from_numpy(skeletonize(image[0, 0].numpy() > 0))[:, 12:20].any(dim=1).nonzero().flatten().tolist()
    assert set(hard) <= set(middle)


def test_a_structure_cut_by_the_tiles_edge_keeps_its_skeleton_up_to_the_edge():
    image = torch.zeros(1, 1, 24, 40)
    image[..., 10:13, :] = 1  # runs through both edges
    skeleton = soft_skeletonize(image, iterations=3)[0, 0]
    assert torch.equal(skeleton[11], torch.ones(40))
    assert skeleton.sum() == 40


def test_too_few_iterations_leave_nothing_but_the_core_stays():
    wide = bar(slice(8, 18))
    assert soft_skeletonize(wide, iterations=3).sum() == 0
    core = soft_skeleton_with_core(wide, iterations=3)
    assert core.sum() > 0 and (core <= wide).all()


def test_the_core_changes_nothing_where_the_reach_suffices():
    thin = torch.where(bar(slice(8, 11)) > 0, 0.9, 0.3)
    assert torch.equal(soft_skeleton_with_core(thin, 3), soft_skeletonize(thin, 3))


def test_values_stay_in_range_and_dtype():
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        skeleton = soft_skeletonize(random_map(16, 16, dtype=dtype), 5)
        assert skeleton.dtype == dtype and skeleton.min() >= 0 and skeleton.max() <= 1


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"\(B, C, H, W\), got \(8, 8\)"):
        soft_skeletonize(torch.zeros(8, 8), 1)
    with pytest.raises(ValueError, match="at least 0, got -1"):
        soft_skeletonize(torch.zeros(1, 1, 8, 8), -1)


def test_a_padded_image_has_the_same_skeleton_inside():
    """Nothing outside the tile counts: a margin of background changes nothing for a structure away from the edge."""
    image = bar(slice(12, 17))
    padded = F.pad(image, (8, 8, 8, 8))
    assert torch.equal(soft_skeletonize(padded, 4)[..., 8:-8, 8:-8], soft_skeletonize(image, 4))
