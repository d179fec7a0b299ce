"""Adapt Segment Anything to thin structures, by training a few percent of its parameters.

The method is TopoLoRA-SAM (arXiv 2601.02273) and what goes past it; see README.md.
"""

from .adapters import (
    PRESETS,
    AdapterSettings,
    create_adapter,
    format_parameter_table,
    load_adapter,
    merge_adapter,
    parameter_table,
    preset_network_settings,
    save_adapter,
)
from .convert import OnnxNetwork, convert_seglab_checkpoint, export_onnx
from .data import Augmentation, DataError, TileDataset, load_segmentation_data
from .hub import PushError, push_adapter
from .inference import Centreline, Prediction, Predictor
from .network import AdapterMismatchError, DetailBranch, SpatialAdapter, TopoSamConfig, TopoSamForSegmentation
from .objective import Losses, TopoLoss, soft_skeletonize
from .specialists import SPECIALISTS, Specialist, build_specialist, load_specialist
from .training import PretrainArguments, RunStopped, TrainArguments, pretrain, train

__version__ = "0.1.0"

__all__ = [
    "PRESETS",
    "SPECIALISTS",
    "AdapterMismatchError",
    "AdapterSettings",
    "Augmentation",
    "Centreline",
    "DataError",
    "DetailBranch",
    "Losses",
    "OnnxNetwork",
    "Prediction",
    "Predictor",
    "PretrainArguments",
    "PushError",
    "RunStopped",
    "SpatialAdapter",
    "Specialist",
    "TileDataset",
    "TopoLoss",
    "TopoSamConfig",
    "TopoSamForSegmentation",
    "TrainArguments",
    "build_specialist",
    "convert_seglab_checkpoint",
    "create_adapter",
    "export_onnx",
    "format_parameter_table",
    "load_adapter",
    "load_segmentation_data",
    "load_specialist",
    "merge_adapter",
    "parameter_table",
    "preset_network_settings",
    "pretrain",
    "push_adapter",
    "save_adapter",
    "soft_skeletonize",
    "train",
]

# PEFT writes the base class's module into published adapters, and loads it from there: files may move, this may not.
for _name in __all__:
    if isinstance(globals()[_name], type):
        globals()[_name].__module__ = __name__
