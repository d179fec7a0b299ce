"""What training minimises."""

from .compilation import SKELETON_COMPILATION, set_skeleton_compilation
from .losses import CLDICE_SCHEDULES, TARGET_SKELETONS, Losses, TopoLoss, cldice_loss, dice_loss
from .soft_skeleton import soft_skeleton_with_core, soft_skeletonize

__all__ = [
    "CLDICE_SCHEDULES",
    "SKELETON_COMPILATION",
    "TARGET_SKELETONS",
    "Losses",
    "TopoLoss",
    "cldice_loss",
    "dice_loss",
    "set_skeleton_compilation",
    "soft_skeleton_with_core",
    "soft_skeletonize",
]
