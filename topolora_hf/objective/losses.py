"""The training objective: cross-entropy, Dice and clDice, on logits, per sample, inside the valid mask."""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from skimage.morphology import skeletonize
from torch import Tensor, nn

from . import CLDICE_SCHEDULES, TARGET_SKELETONS
from .soft_skeleton import soft_skeleton_with_core, soft_skeletonize

IGNORED = 255  # a label without a class, as in transformers
_EPS = 1e-6


class Losses(NamedTuple):
    """The weighted sum and its unweighted terms, scalars; `cldice` is NaN where it was not computed.

    `bce` is the binary cross-entropy, or, of exclusive classes, the cross-entropy over them and the background.
    """

    __module__ = "topolora_hf"  # wherever the file lies

    total: Tensor
    bce: Tensor
    dice: Tensor
    cldice: Tensor


def class_probabilities(logits: Tensor, exclusive: bool = False) -> Tensor:
    """Give the probability of each class, (B, K, H, W) -> (B, K, H, W).

    Of exclusive classes it is the softmax over K + 1 logits, of which the first, the background's, is 0. Of others, a
    sigmoid each.
    """
    return _with_background(logits).softmax(1)[:, 1:] if exclusive else logits.sigmoid()


def _with_background(logits: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1)


def dice_loss(probabilities: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """`1 - (2 |P.T| + s) / (|P| + |T| + s)` of each map, (B, K, H, W) in [0, 1] -> (B, K).

    With the smoothing s, in pixels, an empty target with an empty prediction costs nothing.
    """
    overlap, total = (probabilities * target).sum((-2, -1)), (probabilities + target).sum((-2, -1))
    return 1 - (2 * overlap + smooth) / (total + smooth)


def cldice_loss(
    probabilities: Tensor, target: Tensor, iterations: int, target_skeleton: Tensor | None = None
) -> Tensor:
    """One minus soft clDice (Shit et al. 2021, arXiv 2003.07311, equation 2) of each map.

    The harmonic mean of topology precision (how much of the prediction's skeleton lies in the target) and topology
    sensitivity (how much of the target's skeleton lies in the prediction). No constant is added to the ratios: with
    one, an empty or a full prediction passes for a good one. An empty prediction costs 1.

    Args:
        probabilities, target: (B, K, H, W) in [0, 1].
        iterations: rounds of soft erosion of the prediction (and of the target, without `target_skeleton`).
        target_skeleton: (B, K, H, W), the hard skeleton of the target. Without it the target's skeleton is soft and
            both skeletons are the original's, as in the paper's code.

    Returns:
        (B, K), NaN where the target's skeleton is empty: there is no centreline to find.
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
    """`BCE + Dice + weight * clDice`: means over samples and classes, of clDice over the maps with a centreline.

    Labels are masks (B, K, H, W): bool, 0 and 1, or floats in [0, 1]; or class indices (B, H, W): 0 is background, k
    the k-th class. Pixels of 255 are left out, like those outside `valid_mask`; of exclusive classes, those that any
    mask leaves out.

    Args:
        iterations: rounds of soft erosion; from the largest half-width of the training masks.
        cldice_weight: the weight of the clDice term.
        schedule: `"fixed"`; `"ramp"`, which raises the weight linearly with `progress` until `ramp_fraction` (the
            skeleton of an untrained network's prediction is mostly noise); or `"adaptive"`, the uncertainty weighting
            of Kendall et al. 2018 (arXiv 1705.07115): each term L becomes `w (exp(-s) L + s)` with a learned s.
        ramp_fraction: the part of the training over which the weight rises.
        target_skeleton: `"hard"` (scikit-image) or `"soft"` (the same erosion as the prediction's).
        exclusive: A pixel is of one class at most. Probabilities are then those of a softmax (`class_probabilities`),
            and the cross-entropy is that over K classes and the background in place of the mean of K binary ones.
        thin: Of each class, whether clDice is computed; None: of all.

    Attributes:
        progress: of the training, from 0 to 1.

    Shape:
        logits (B, K, H, W); labels as above; valid_mask (B, H, W); skeleton, of the target, (B, K, H, W), or (B, H, W)
        where K is 1.

    Raises:
        ValueError: a setting is unknown or negative; labels, valid_mask, skeleton or `thin` do not fit the logits;
            labels hold other values; a pixel is of two exclusive classes. Values on a GPU are looked at in the first
            batch alone, not to wait for it in every step.
    """

    __module__ = "topolora_hf"  # wherever the file lies

    def __init__(
        self,
        iterations: int = 10,
        cldice_weight: float = 0.5,
        schedule: str = "fixed",
        ramp_fraction: float = 0.15,
        target_skeleton: str = "hard",
        exclusive: bool = False,
        thin: Sequence[bool] | None = None,
    ):
        super().__init__()
        if schedule not in CLDICE_SCHEDULES:
            raise ValueError(f"the clDice schedule must be one of {', '.join(CLDICE_SCHEDULES)}; got {schedule!r}")
        if target_skeleton not in TARGET_SKELETONS:
            raise ValueError(f"target_skeleton must be one of {', '.join(TARGET_SKELETONS)}; got {target_skeleton!r}")
        if cldice_weight < 0:
            raise ValueError(f"the clDice weight must not be negative, got {cldice_weight}")
        self.iterations, self.cldice_weight, self.target_skeleton = iterations, cldice_weight, target_skeleton
        self.schedule, self.ramp_fraction = schedule, ramp_fraction
        self.exclusive, self.thin = exclusive, None if thin is None or all(thin) else tuple(map(bool, thin))
        self._of_classes = thin if thin is None else len(thin)
        self.progress = 1.0
        self.log_variances = nn.Parameter(torch.zeros(3)) if schedule == "adaptive" else None
        self._has_seen_labels = False

    def weight_now(self) -> float:
        """The clDice weight at the current `progress` (0 at the start of training, 1 at its end)."""
        if self.schedule == "ramp" and self.ramp_fraction > 0:
            return self.cldice_weight * min(1.0, self.progress / self.ramp_fraction)
        return self.cldice_weight

    def forward(
        self,
        logits: Tensor,
        labels: Tensor,
        valid_mask: Tensor | None = None,
        skeleton: Tensor | None = None,
        count: Tensor | None = None,
    ) -> Losses:
        """Compute the losses of a batch.

        Args:
            count: for batches that share an optimizer step, the mean of their `count_centrelines`, over all processes.
                The mean of their losses is then the loss of one batch of all their samples.
        """
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        target, valid = (maps.to(logits) for maps in self._read(labels, valid_mask, logits.shape))
        target = target * valid
        probabilities = class_probabilities(logits, self.exclusive) * valid
        bce = self._cross_entropy(logits, target) * valid
        bce = (bce.sum((-2, -1)) / valid.sum((-2, -1)).clamp_min(1)).mean()  # each sample over its valid part
        dice = dice_loss(probabilities, target).mean()
        cldice, is_defined = self._cldice(probabilities, target, valid, skeleton, count)
        shown = torch.where(is_defined, cldice.detach(), torch.nan)
        return Losses(self._weigh(bce, dice, cldice), bce.detach(), dice.detach(), shown)

    @torch.no_grad()
    def count_centrelines(
        self, labels: Tensor, valid_mask: Tensor | None = None, skeleton: Tensor | None = None, maps: int = 1
    ) -> Tensor:
        """Count the maps of a batch that have a clDice, as a float scalar.

        Arguments are `forward`'s; `maps` is K, where labels are indices.
        """
        shape = labels.shape if labels.ndim == 4 else torch.Size((len(labels), maps, *labels.shape[-2:]))
        target, valid = (maps.float() for maps in self._read(labels, valid_mask, shape))
        skeleton = self._skeleton_of(target * valid, valid, skeleton)
        if skeleton is None:
            skeleton = soft_skeletonize(self._thin(target * valid), self.iterations)
        return (skeleton.sum((-2, -1)) > 0).sum().float()

    def _cross_entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        """Of each pixel, (B, K, H, W), or (B, 1, H, W) of exclusive classes."""
        if not self.exclusive:
            return F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        background = 1 - target.sum(1, keepdim=True)
        return -(torch.cat([background, target], 1) * _with_background(logits).log_softmax(1)).sum(1, keepdim=True)

    def _read(self, labels: Tensor, valid_mask: Tensor | None, shape: torch.Size) -> tuple[Tensor, Tensor]:
        """The target (B, K, H, W), and what of it counts, (B, 1 or K, H, W)."""
        if self._of_classes not in (None, shape[1]):
            raise ValueError(f"thin says of {self._of_classes} classes whether they are, the logits have {shape[1]}")
        target = masks_from_labels(labels, shape)
        valid = labels != IGNORED if labels.ndim == 4 else (labels != IGNORED)[:, None]
        if self.exclusive:
            valid = valid.all(1, keepdim=True)
        if labels.device.type == "cpu" or not self._has_seen_labels:
            _require_known_values(labels, shape[1])
            if self.exclusive:
                _require_one_class(target, valid if valid_mask is None else valid & (valid_mask[:, None] > 0))
            self._has_seen_labels = True
        if valid_mask is not None:
            if valid_mask.shape != (shape[0], *shape[2:]):
                raise ValueError(
                    f"a valid_mask of shape {tuple(valid_mask.shape)} does not fit logits of shape {tuple(shape)}: it "
                    "must be (B, H, W)"
                )
            valid = valid * valid_mask[:, None]
        return target, valid

    def _skeleton_of(self, target: Tensor, valid: Tensor, skeleton: Tensor | None) -> Tensor | None:
        """The hard skeletons of the target's thin classes; None for soft ones."""
        if self.target_skeleton == "soft":
            return None
        if skeleton is None:
            return hard_skeletons(self._thin(target))
        maps = target.shape[1]
        if skeleton.ndim == 3 and maps > 1:
            raise ValueError(f"a skeleton of shape {tuple(skeleton.shape)} does not say of which of {maps} maps it is")
        return self._thin(masks_from_labels(skeleton, target.shape, "skeleton").to(valid) * valid)

    def _thin(self, maps: Tensor) -> Tensor:
        """Those of K maps that are of thin classes."""
        return maps if self.thin is None else maps[:, [k for k, is_thin in enumerate(self.thin) if is_thin]]

    def centreline_loss(self, probabilities: Tensor, target: Tensor, skeleton: Tensor | None) -> Tensor:
        """The third term of each map, NaN without a centreline; a subclass may give another than clDice."""
        return cldice_loss(probabilities, target, self.iterations, skeleton)

    def _cldice(
        self, probabilities: Tensor, target: Tensor, valid: Tensor, skeleton: Tensor | None, count: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The term, 0 where there is none; and whether there is one."""
        if (self.weight_now() == 0 and self.schedule != "adaptive") or (self.thin is not None and not any(self.thin)):
            return probabilities.new_zeros(()), probabilities.new_zeros((), dtype=torch.bool)
        skeleton = self._skeleton_of(target, valid, skeleton)
        per_map = self.centreline_loss(self._thin(probabilities), self._thin(target), skeleton)
        has_centreline = ~per_map.isnan()
        count = has_centreline.sum().to(per_map) if count is None else count
        return torch.where(has_centreline, per_map, 0).sum() / torch.where(count > 0, count, 1), count > 0

    def _weigh(self, bce: Tensor, dice: Tensor, cldice: Tensor) -> Tensor:
        if self.log_variances is None:
            return bce + dice + self.weight_now() * cldice
        terms = torch.stack([bce, dice, cldice])
        weights = terms.new_tensor([1.0, 1.0, self.cldice_weight])
        return (weights * (torch.exp(-self.log_variances) * terms + self.log_variances)).sum()


def masks_from_labels(labels: Tensor, shape: torch.Size, name: str = "labels") -> Tensor:
    """Class indices (B, H, W) or masks (B, K, H, W) -> masks of `shape`, bool, or float as they were."""
    masks = labels
    if labels.ndim == 3:
        masks = torch.stack([labels == k + 1 for k in range(shape[1])], dim=1)
    elif not labels.is_floating_point():
        masks = labels == 1
    if masks.shape != shape:
        raise ValueError(f"{name} of shape {tuple(labels.shape)} do not fit logits of shape {tuple(shape)}")
    return masks


def _require_known_values(labels: Tensor, maps: int) -> None:
    """Refuse what would be taken for background or ignored, or for more than foreground, without a word."""
    if labels.dtype == torch.bool:
        return
    if labels.ndim == 4 and labels.is_floating_point():
        is_known, allowed = (labels >= 0) & (labels <= 1), "masks of floats must lie in [0, 1]"
    else:
        most = maps if labels.ndim == 3 else 1
        is_known = torch.isin(labels, torch.tensor([*range(most + 1), IGNORED], device=labels.device))
        allowed = f"labels must be 0 to {most}, or {IGNORED} for pixels to leave out"
    if not is_known.all():
        raise ValueError(f"{allowed}; got {labels[~is_known].unique()[:5].tolist()}")
    if (labels == IGNORED).any() and not ((labels > 0) & (labels != IGNORED)).any():
        warnings.warn(
            f"labels of 0 and {IGNORED} alone: {IGNORED} is left out, and nothing is foreground. Divide masks of 0 and "
            f"{IGNORED} by {IGNORED}",
            stacklevel=2,
        )


def _require_one_class(target: Tensor, valid: Tensor) -> None:
    several = (target.float().sum(1, keepdim=True) > 1 + _EPS) & valid
    if several.any():
        raise ValueError(
            f"{int(several.sum())} pixels are of two classes or more, and the classes are exclusive. Give exclusive="
            "False where classes overlap, or leave these pixels out (255, or valid_mask)"
        )


def hard_skeletons(target: Tensor) -> Tensor:
    """(B, K, H, W) masks -> their scikit-image skeletons, of the same dtype and device."""
    if target.device.type != "cpu":
        warnings.warn(
            "labels without a skeleton: it is made on the CPU in every step, and the GPU waits. TileDataset makes it "
            "while data are loaded",
            stacklevel=2,
        )
    masks = target.detach().cpu().numpy() > 0.5
    skeletons = np.zeros_like(masks)
    for place in np.ndindex(masks.shape[:2]):
        skeletons[place] = skeletonize(masks[place])
    return torch.from_numpy(skeletons).to(target)
