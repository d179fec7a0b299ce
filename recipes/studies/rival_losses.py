"""Objectives that stand beside clDice in the literature, in the frame of `TopoLoss`: per map, inside the valid mask.

`OBJECTIVES` names each with the class and the weight of its third term that `objectives.py` compares.
"""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from topolora_hf import Losses, TopoLoss, soft_skeletonize

_EPS = 1e-7
_CBDICE_SMOOTH = 1e-3  # as in the trainers of cbDice's authors
_TUBE = 2  # dilations


def skeleton_recall_loss(probabilities: Tensor, target: Tensor, target_skeleton: Tensor) -> Tensor:
    """One minus the soft recall on the target's tube (Kirchhoff et al., ECCV 2024, arXiv 2404.03010, algorithm 1).

    The tube is the skeleton, dilated twice by a cross, inside the target.

    Args:
        probabilities, target, target_skeleton: (B, K, H, W) in [0, 1].

    Returns:
        (B, K), NaN where the skeleton is empty.
    """
    tube = target_skeleton
    for _ in range(_TUBE):
        tube = torch.maximum(F.max_pool2d(tube, (1, 3), 1, (0, 1)), F.max_pool2d(tube, (3, 1), 1, (1, 0)))
    tube = tube * target
    pixels = tube.sum((-2, -1))
    return torch.where(pixels > 0, 1 - (tube * probabilities).sum((-2, -1)) / pixels.clamp_min(1), torch.nan)


def cbdice_loss(probabilities: Tensor, target: Tensor, target_skeleton: Tensor, iterations: int) -> Tensor:
    """One minus the centreline boundary Dice (Shi et al., MICCAI 2024, arXiv 2407.01517), as its authors' code has it.

    clDice whose pixels are weighted: those of a mask by their distance to the background, those of a skeleton by one
    over their radius, both as a share of the map's largest radius. Distances are those of the prediction above one
    half, and have no gradient. It can be below 0: a target may be relatively wider than the prediction.

    Args:
        probabilities, target, target_skeleton: (B, K, H, W) in [0, 1].
        iterations: rounds of soft erosion of the prediction.

    Returns:
        (B, K), NaN where the skeleton is empty.
    """
    soft = soft_skeletonize(probabilities, iterations)
    depth_p, radius_p, inverse_p = _distances(probabilities > 0.5, soft > 0.5)
    depth_t, radius_t, inverse_t = _distances(target > 0.5, target_skeleton > 0.5)
    depth_p, radius_p, inverse_p = depth_p * probabilities, radius_p * probabilities, inverse_p * soft
    precision = _weighted_share(inverse_p, depth_t, radius_p, radius_t)
    sensitivity = _weighted_share(inverse_t, depth_p, radius_t, radius_p)
    cbdice = 2 * precision * sensitivity / (precision + sensitivity)
    return torch.where(target_skeleton.sum((-2, -1)) > 0, 1 - cbdice, torch.nan)


def _distances(masks: Tensor, skeletons: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each pixel: depth in the mask; on the skeleton the radius, and one over it. Shares of the largest radius."""
    flat = masks.detach().flatten(0, 1).cpu().numpy()
    distances = np.stack([distance_transform_edt(mask) for mask in flat]).astype(np.float32).reshape(masks.shape)
    distances = torch.from_numpy(distances).to(masks.device)
    largest = (distances * skeletons).amax((-2, -1), keepdim=True).clamp_min(1)
    radius = distances * skeletons / largest
    return torch.minimum(distances, largest) / largest, radius, skeletons * (1 + _EPS) / (radius + _EPS)


def _weighted_share(inverse: Tensor, depth: Tensor, own_radius: Tensor, other_radius: Tensor) -> Tensor:
    """How much of a skeleton lies in the other mask, (B, K), beside how much it would be on the other's skeleton."""
    most = torch.where((own_radius != 0) & (other_radius == 0), own_radius, other_radius)
    found, possible = (inverse * depth).sum((-2, -1)), (inverse * most).sum((-2, -1))
    return (found + _CBDICE_SMOOTH) / (possible + _CBDICE_SMOOTH)


def worst_of_class(logits: Tensor, is_foreground: Tensor, is_valid: Tensor) -> Tensor:
    """Same-class neighbour penalisation (Valverde et al., CVPR 2026, arXiv 2603.18671).

    A pixel of the foreground takes the least logit of the foreground in its 3x3 neighbourhood, one of the background
    the greatest of the background. What is not valid is of no class and stays as it is.

    Args:
        logits: (B, K, H, W). `is_foreground`, `is_valid`: bool, that shape or one that broadcasts to it.
    """
    foreground, background = is_foreground & is_valid, ~is_foreground & is_valid
    least = -F.max_pool2d(-logits.masked_fill(~foreground, torch.inf), 3, 1, 1)
    greatest = F.max_pool2d(logits.masked_fill(~background, -torch.inf), 3, 1, 1)
    return torch.where(foreground, least, torch.where(background, greatest, logits))


class SkeletonRecall(TopoLoss):
    """`BCE + Dice + weight * skeleton_recall_loss`."""

    def centreline_loss(self, probabilities: Tensor, target: Tensor, skeleton: Tensor | None) -> Tensor:
        return skeleton_recall_loss(probabilities, target, skeleton)


class CbDice(TopoLoss):
    """`BCE + Dice + weight * cbdice_loss`."""

    def centreline_loss(self, probabilities: Tensor, target: Tensor, skeleton: Tensor | None) -> Tensor:
        return cbdice_loss(probabilities, target, skeleton, self.iterations)


class Scnp(TopoLoss):
    """Every term of `TopoLoss`, of logits that went through `worst_of_class`."""

    def forward(self, logits: Tensor, labels: Tensor, valid_mask: Tensor | None = None, *others, **named) -> Losses:
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        target, valid = self._read(labels, valid_mask, logits.shape)
        logits = worst_of_class(logits, target > 0.5, valid > 0)
        return super().forward(logits, labels, valid_mask, *others, **named)


# The weights of the third terms: ours of clDice; their authors' of Skeleton Recall, and ours; of cbDice 1 as well, its
# authors weigh BCE, Dice and cbDice as 3, 1 and 2.
OBJECTIVES = {
    "bce_dice": (TopoLoss, 0.0),
    "cldice": (TopoLoss, 0.5),
    "skeleton_recall": (SkeletonRecall, 1.0),
    "skeleton_recall_half": (SkeletonRecall, 0.5),
    "cbdice": (CbDice, 1.0),
    "scnp": (Scnp, 0.0),
    "scnp_cldice": (Scnp, 0.5),
}
