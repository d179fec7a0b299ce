"""What a forward pass runs through."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "configuration": ["TopoSamConfig"],
        "detail_branch": ["DetailBranch"],
        "embedded": ["tiny_config"],
        "segmenter": ["TopoSamForSegmentation"],
        "spatial_adapter": ["SpatialAdapter"],
    },
)
