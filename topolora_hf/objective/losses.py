"""The training objective: binary cross-entropy, Dice and clDice, on logits, per sample, inside the valid mask."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from skimage.morphology import skeletonize
from torch import nn

from .names import CLDICE_SCHEDULES, TARGET_SKELETONS
from .soft_skeleton import soft_skeleton_with_core, soft_skeletonize

_EPS = 1e-6


class Losses(NamedTuple):
    """The weighted sum and its unweighted terms, scalars; `cldice` is NaN where it was not computed."""

    __module__ = "topolora_hf"  # wherever the file lies

    total: torch.Tensor
    bce: torch.Tensor
    dice: torch.Tensor
    cldice: torch.Tensor


def dice_loss(probabilities: torch.Tensor, target: torch.Tensor, smooth: float = 1.0) -> torch.Tensor:
    """`1 - (2 |P.T| + s) / (|P| + |T| + s)` of each map.

    Args:
        probabilities, target: (B, K, H, W) in [0, 1].
        smooth: in pixels; an empty target with an empty prediction costs nothing.

    Returns:
        (B, K)
    """
    overlap, total = (probabilities * target).sum((-2, -1)), (probabilities + target).sum((-2, -1))
    return 1 - (2 * overlap + smooth) / (total + smooth)


def cldice_loss(
    probabilities: torch.Tensor,
    target: torch.Tensor,
    iterations: int,
    target_skeleton: torch.Tensor | None = None,
) -> torch.Tensor:
    """One minus soft clDice (Shit et al. 2021, arXiv 2003.07311, equation 2) of each map.

    The harmonic mean of topology precision (how much of the prediction's skeleton lies in the target) and topology
    sensitivity (how much of the target's skeleton lies in the prediction). No constant is added to the ratios: with
    one, an empty or a full prediction passes for a good one. An empty prediction costs 1. A map without a target
    has no centreline to find: it is NaN here, and left out of the mean by `TopoLoss`.

    Args:
        probabilities, target: (B, K, H, W) in [0, 1].
        iterations: rounds of soft erosion of the prediction (and of the target, without `target_skeleton`).
        target_skeleton: (B, K, H, W), the hard skeleton of the target. Without it the target's skeleton is soft and
            both skeletons are the original's, as in the paper's code.

    Returns:
        (B, K), NaN where the target is empty.
    """
    if target_skeleton is None:
        target_skeleton = soft_skeletonize(target, iterations)
        skeleton = soft_skeletonize(probabilities, iterations)
    else:
        skeleton = soft_skeleton_with_core(probabilities, iterations)
    precision = (skeleton * target).sum((-2, -1)) / (skeleton.sum((-2, -1)) + _EPS)
    length = target_skeleton.sum((-2, -1))
    sensitivity = (target_skeleton * probabilities).sum((-2, -1)) / length.clamp_min(_EPS)
    cldice = 2 * precision * sensitivity / (precision + sensitivity + _EPS)
    return torch.where(length > 0, 1 - cldice, torch.nan)


class TopoLoss(nn.Module):
    """`BCE + Dice + weight * clDice`, averaged over samples.

    Args:
        iterations: rounds of soft erosion; from the largest half-width of the training masks.
        cldice_weight: the weight of the clDice term.
        schedule: `"fixed"`; `"ramp"`, which raises the weight linearly with `progress` until `ramp_fraction` (the
            skeleton of an untrained network's prediction is mostly noise); or `"adaptive"`, the uncertainty weighting
            of Kendall et al. 2018 (arXiv 1705.07115): each term L becomes `w (exp(-s) L + s)` with a learned s.
        ramp_fraction: the part of the training over which the weight rises.
        target_skeleton: `"hard"` (scikit-image) or `"soft"` (the same erosion as the prediction's).

    Attributes:
        progress: of the training, from 0 to 1.
        mean_over_processes: where several processes train together, the mean of a scalar over them. Maps without a
            target have no clDice, and may be more in one process's batch than in another's: with it, the mean of the
            processes' losses is that of one batch of all their samples.

    Raises:
        ValueError: for an unknown schedule or target skeleton, a negative weight, or labels that do not fit the logits.

    Shape:
        logits (B, K, H, W); labels (B, H, W) class indices or (B, K, H, W) masks; valid_mask (B, H, W).
    """

    __module__ = "topolora_hf"  # wherever the file lies

    def __init__(
        self,
        iterations: int = 10,
        cldice_weight: float = 0.5,
        schedule: str = "fixed",
        ramp_fraction: float = 0.15,
        target_skeleton: str = "hard",
    ):
        super().__init__()
        if schedule not in CLDICE_SCHEDULES:
            raise ValueError(f"the clDice schedule must be one of {', '.join(CLDICE_SCHEDULES)}; got {schedule!r}")
        if target_skeleton not in TARGET_SKELETONS:
            raise ValueError(f"target_skeleton must be one of {', '.join(TARGET_SKELETONS)}; got {target_skeleton!r}")
        if cldice_weight < 0:
            raise ValueError(f"the clDice weight must not be negative, got {cldice_weight}")
        self.iterations = iterations
        self.cldice_weight = cldice_weight
        self.schedule = schedule
        self.ramp_fraction = ramp_fraction
        self.target_skeleton = target_skeleton
        self.progress = 1.0
        self.mean_over_processes: Callable[[torch.Tensor], torch.Tensor] | None = None
        self.log_variances = nn.Parameter(torch.zeros(3)) if schedule == "adaptive" else None

    def weight_now(self) -> float:
        """The clDice weight at the current `progress` (0 at the start of training, 1 at its end)."""
        if self.schedule == "ramp" and self.ramp_fraction > 0:
            return self.cldice_weight * min(1.0, self.progress / self.ramp_fraction)
        return self.cldice_weight

    def forward(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        valid_mask: torch.Tensor | None = None,
        skeleton: torch.Tensor | None = None,
    ) -> Losses:
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        target = masks_from_labels(labels, logits.shape).to(logits)
        valid = torch.ones_like(target[:, :1]) if valid_mask is None else valid_mask[:, None].to(target)
        target = target * valid
        probabilities = logits.sigmoid() * valid
        bce, dice = _mean_bce(logits, target, valid), dice_loss(probabilities, target).mean()
        cldice, is_defined = self._cldice(probabilities, target, valid, skeleton)
        shown = torch.where(is_defined, cldice.detach(), torch.nan)
        return Losses(self._weigh(bce, dice, cldice), bce.detach(), dice.detach(), shown)

    def _cldice(
        self, probabilities: torch.Tensor, target: torch.Tensor, valid: torch.Tensor, skeleton: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The term, 0 where there is none; and whether there is one."""
        if self.weight_now() == 0 and self.schedule != "adaptive":
            return probabilities.new_zeros(()), probabilities.new_zeros((), dtype=torch.bool)
        if self.target_skeleton == "soft":
            skeleton = None
        elif skeleton is None:
            skeleton = hard_skeletons(target)
        else:
            maps = probabilities.shape[1]
            if skeleton.ndim == 3 and maps > 1:
                raise ValueError(
                    f"a skeleton of shape {tuple(skeleton.shape)} does not say of which of {maps} maps it is"
                )
            skeleton = masks_from_labels(skeleton, probabilities.shape).to(valid) * valid
        per_map = cldice_loss(probabilities, target, self.iterations, skeleton)
        has_target = ~per_map.isnan()
        count = has_target.sum().to(per_map)
        if self.mean_over_processes is not None:
            count = self.mean_over_processes(count)
        return torch.where(has_target, per_map, 0).sum() / torch.where(count > 0, count, 1), count > 0

    def _weigh(self, bce: torch.Tensor, dice: torch.Tensor, cldice: torch.Tensor) -> torch.Tensor:
        if self.log_variances is None:
            return bce + dice + self.weight_now() * cldice
        terms = torch.stack([bce, dice, cldice])
        weights = terms.new_tensor([1.0, 1.0, self.cldice_weight])
        return (weights * (torch.exp(-self.log_variances) * terms + self.log_variances)).sum()


def _mean_bce(logits: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """The mean over the samples, each over its valid part."""
    pixels = valid.sum((-2, -1)).clamp_min(1)
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return ((bce * valid).sum((-2, -1)) / pixels).mean()


def masks_from_labels(labels: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Class indices (B, H, W) or masks (B, K, H, W) -> float masks (B, K, H, W); map k of K > 1 is class k.

    With K = 1 the single map is class 1. Raises ValueError when the sizes differ.
    """
    if labels.ndim == 3:
        classes = shape[1]
        if classes == 1:
            labels = (labels == 1)[:, None]
        else:
            labels = torch.stack([labels == k for k in range(classes)], dim=1)
    if labels.shape != shape:
        raise ValueError(f"labels of shape {tuple(labels.shape)} do not fit logits of shape {tuple(shape)}")
    return labels.float()


def hard_skeletons(target: torch.Tensor) -> torch.Tensor:
    """(B, K, H, W) masks -> their scikit-image skeletons, of the same dtype and device."""
    masks = target.detach().cpu().numpy() > 0.5
    skeletons = np.stack([np.stack([skeletonize(mask) for mask in maps]) for maps in masks])
    return torch.from_numpy(skeletons).to(target)
