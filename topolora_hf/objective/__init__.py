"""What training minimises."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "compilation": ["compile_skeleton"],
        "losses": ["Losses", "TopoLoss", "cldice_loss", "dice_loss"],
        "names": ["CLDICE_SCHEDULES", "TARGET_SKELETONS"],
        "soft_skeleton": ["soft_skeleton_with_core", "soft_skeletonize"],
    },
)
