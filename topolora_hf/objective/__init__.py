"""What training minimises. Settings read the allowed values without importing torch."""

import lazy_loader as lazy

CLDICE_SCHEDULES = ("fixed", "ramp", "adaptive")
TARGET_SKELETONS = ("hard", "soft")

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "losses": ["Losses", "TopoLoss", "class_probabilities", "cldice_loss", "dice_loss"],
        "soft_skeleton": ["compile_skeleton", "soft_skeleton_with_core", "soft_skeletonize"],
    },
)
