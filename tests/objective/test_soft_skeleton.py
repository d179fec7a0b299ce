import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.losses.cldice import soft_skel
from skimage.morphology import skeletonize

from topolora_hf.objective.soft_skeleton import _Layout, soft_skeleton_with_core, soft_skeletonize


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
@pytest.mark.parametrize("shape", [(17, 23), (32, 32), (1, 9), (9, 1), (1, 1), (2, 2)])
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


def test_the_gradient_is_the_same_however_the_maps_are_cut_into_blocks(monkeypatch):
    def gradient_of(images):
        images = images.clone().requires_grad_()
        (soft_skeleton_with_core(images, 2) * random_map(40, 7, seed=1)).sum().backward()
        return images.grad

    images = random_map(40, 7)
    whole = gradient_of(images)
    monkeypatch.setattr("topolora_hf.objective.soft_skeleton._BLOCK_CELLS_CPU", 1)
    assert _Layout(images, 2).blocks_in_all > 5
    torch.testing.assert_close(gradient_of(images), whole)
    assert np.array_equal(
        soft_skeletonize(images, 2)[1, 2].numpy(), skeleton_by_definition(images[1, 2].numpy(), iterations=2)
    )


def test_a_tie_sends_the_gradient_to_the_pixel_itself():
    flat = torch.full((1, 1, 9, 9), 0.25, requires_grad=True)
    peak = flat + F.pad(torch.tensor([[[[0.5]]]]), (4, 4, 4, 4))
    soft_skeletonize(peak, 0).sum().backward()
    # the peak's residue: itself, less what opening leaves at its place, which the middle of the 3x3 neighbours attains;
    # there the erosion of the peak's own pixel is its upper neighbour, the first of the four that tie
    expected = torch.zeros(9, 9)
    expected[4, 4], expected[3, 4] = 1, -1
    assert torch.equal(flat.grad[0, 0], expected)


def test_the_gradient_of_tied_values_adds_up_as_max_poolings():
    ours = (random_map(12, 12) * 3).round().div(3).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    soft_skeletonize(ours, 3).sum().backward()
    soft_skel(theirs, 3).sum().backward()
    assert not torch.equal(ours.grad, theirs.grad)  # ties: other pixels ...
    torch.testing.assert_close(ours.grad.sum((-2, -1)), theirs.grad.sum((-2, -1)))  # ... of the same values


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_every_dtype_is_the_max_pool_definition_in_it(dtype):
    images = random_map(19, 14, dtype=torch.float32).to(dtype)
    assert torch.equal(soft_skeletonize(images, 4), soft_skel(images, 4))


def test_values_outside_the_range_are_those_of_the_definition_too():
    images = 3 * random_map(20, 20, dtype=torch.float64) - 1.5
    ours, theirs = images.clone().requires_grad_(), images.clone().requires_grad_()
    assert torch.equal(soft_skeletonize(ours, 3), soft_skel(theirs, 3))
    soft_skeletonize(ours, 3).sum().backward()
    soft_skel(theirs, 3).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("form", ["transposed", "channels_last", "every second column"])
def test_the_memory_layout_does_not_matter(form):
    images = random_map(16, 16)
    laid_out = {
        "transposed": images.mT.contiguous().mT,
        "channels_last": images.to(memory_format=torch.channels_last),
        "every second column": images.repeat_interleave(2, dim=-1)[..., ::2],
    }[form]
    assert not laid_out.is_contiguous() and torch.equal(laid_out, images)
    expected, ours = images.clone().requires_grad_(), laid_out.requires_grad_()
    soft_skeletonize(expected, 3).square().sum().backward()
    soft_skeletonize(ours, 3).square().sum().backward()
    assert torch.equal(ours.grad, expected.grad)


def test_nothing_but_the_input_is_kept_for_the_gradient():
    kept = []
    images = random_map(16, 16).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.shape) or tensor, lambda x: x):
        soft_skeletonize(images, 5)
    assert kept == [images.shape]
    assert not soft_skeletonize(images.detach(), 5).requires_grad


def test_an_empty_batch_and_the_input_stay_as_they_are():
    assert soft_skeletonize(torch.zeros(0, 1, 8, 8), 2).shape == (0, 1, 8, 8)
    images = random_map(9, 9)
    before = images.clone()
    soft_skeletonize(images, 2)
    assert torch.equal(images, before)


def test_a_second_derivative_is_refused():
    images = random_map(6, 6).requires_grad_()
    (gradient,) = torch.autograd.grad(soft_skeletonize(images, 1).square().sum(), images, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


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
