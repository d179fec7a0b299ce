"""Differentiable skeletons by repeated soft erosion (Shit et al. 2021, arXiv 2003.07311, algorithm 1)."""

import torch
import torch.nn.functional as F


def soft_skeletonize(probabilities: torch.Tensor, iterations: int) -> torch.Tensor:
    """Soft skeleton of a probability map: the first opening's residue plus `iterations` rounds of erosion.

    A structure of half-width w needs `iterations >= w - 1`; a wider one leaves nothing behind (see
    `soft_skeleton_with_core`).

    Args:
        probabilities: (B, C, H, W) in [0, 1].
        iterations: rounds after the first opening, at least 0.

    Returns:
        (B, C, H, W) in [0, 1], of the same dtype.

    Raises:
        ValueError: for another number of dimensions, or negative iterations.

    Example:
        >>> import torch
        >>> bar = torch.zeros(1, 1, 7, 9)
        >>> bar[..., 2:5, 1:8] = 1  # 3 pixels wide
        >>> soft_skeletonize(bar, iterations=1)[0, 0, 3].int().tolist()
        [0, 0, 1, 1, 1, 1, 1, 0, 0]
    """
    return _skeleton_and_core(probabilities, iterations)[0]


def soft_skeleton_with_core(probabilities: torch.Tensor, iterations: int) -> torch.Tensor:
    """The soft skeleton, joined with the inside of what is too wide for `iterations` rounds.

    The plain skeleton of a structure that is too wide is empty, and clDice then calls any prediction right. Here what
    is left after the last erosion counts as skeleton too, as far as it is predicted as foreground (above one half, so
    that a faint background adds nothing). Where nothing is left, this is `soft_skeletonize`.
    """
    skeleton, left_over = _skeleton_and_core(probabilities, iterations)
    core = F.relu(2 * left_over - 1)
    return skeleton + F.relu(core - skeleton * core)


def _skeleton_and_core(probabilities: torch.Tensor, iterations: int) -> tuple[torch.Tensor, torch.Tensor]:
    if probabilities.ndim != 4:
        raise ValueError(f"expected probabilities of shape (B, C, H, W), got {tuple(probabilities.shape)}")
    if iterations < 0:
        raise ValueError(f"iterations must be at least 0, got {iterations}")
    eroded = _erode(probabilities)
    opened = _dilate(eroded)
    skeleton = F.relu(probabilities - opened)
    for _ in range(iterations):
        current, eroded = eroded, _erode(eroded)
        opened = _dilate(eroded)
        residue = F.relu(current - opened)
        skeleton = skeleton + F.relu(residue - skeleton * residue)
    return skeleton, opened


def _erode(image: torch.Tensor) -> torch.Tensor:
    """Minimum over the cross-shaped neighbourhood; pixels outside the image do not count."""
    inverted = -image
    vertical = F.max_pool2d(inverted, (3, 1), 1, (1, 0))
    horizontal = F.max_pool2d(inverted, (1, 3), 1, (0, 1))
    return -torch.maximum(vertical, horizontal)


def _dilate(image: torch.Tensor) -> torch.Tensor:
    """Maximum over the 3x3 neighbourhood."""
    return F.max_pool2d(image, 3, 1, 1)
