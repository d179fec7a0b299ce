"""What training minimises."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "compilation": ["SKELETON_COMPILATION", "set_skeleton_compilation"],
        "losses": ["CLDICE_SCHEDULES", "Losses", "TARGET_SKELETONS", "TopoLoss", "cldice_loss", "dice_loss"],
        "soft_skeleton": ["soft_skeleton_with_core", "soft_skeletonize"],
    },
)
