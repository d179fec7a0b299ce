"""What a forward pass runs through."""

from .configuration import SPATIAL_ADAPTER_FORMS, TopoSamConfig
from .detail_branch import DetailBranch
from .guards import AdapterMismatchError
from .segmenter import TopoSamForSegmentation
from .spatial_adapter import SpatialAdapter
from .tiny import TINY, tiny_config

__all__ = [
    "SPATIAL_ADAPTER_FORMS",
    "TINY",
    "AdapterMismatchError",
    "DetailBranch",
    "SpatialAdapter",
    "TopoSamConfig",
    "TopoSamForSegmentation",
    "tiny_config",
]
