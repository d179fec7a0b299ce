"""What a forward pass runs through."""

from .configuration import SPATIAL_ADAPTER_FORMS, TopoSamConfig
from .detail_branch import DetailBranch
from .embedded import EMBEDDED, TINY, TINY_RANDOM, full_base_name, tiny_config
from .guards import AdapterMismatchError
from .segmenter import TopoSamForSegmentation
from .spatial_adapter import SpatialAdapter

__all__ = [
    "EMBEDDED",
    "SPATIAL_ADAPTER_FORMS",
    "TINY",
    "TINY_RANDOM",
    "AdapterMismatchError",
    "DetailBranch",
    "SpatialAdapter",
    "TopoSamConfig",
    "TopoSamForSegmentation",
    "full_base_name",
    "tiny_config",
]
