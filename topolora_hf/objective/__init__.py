"""What training minimises."""

from .losses import CLDICE_SCHEDULES, TARGET_SKELETONS, Losses, TopoLoss, cldice_loss, dice_loss
from .soft_skeleton import soft_skeleton_with_core, soft_skeletonize

__all__ = [
    "CLDICE_SCHEDULES",
    "TARGET_SKELETONS",
    "Losses",
    "TopoLoss",
    "cldice_loss",
    "dice_loss",
    "soft_skeleton_with_core",
    "soft_skeletonize",
]
