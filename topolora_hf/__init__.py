"""Adapt Segment Anything to thin structures, by training a few percent of its parameters.

The method is TopoLoRA-SAM (arXiv 2601.02273) and what goes past it; see README.md. Public names are imported on first
use, so that a command that needs no network does not wait for PyTorch.
"""

import lazy_loader as lazy

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "adapter_format.errors": ["AdapterMismatchError"],
        "adapter_format.presets": ["PRESETS", "preset_network_settings"],
        "adapter_format.settings": ["AdapterSettings"],
        "adapters.creation": ["create_adapter", "save_adapter"],
        "adapters.loading": ["load_adapter", "merge_adapter"],
        "adapters.parameters": ["format_parameter_table", "parameter_table"],
        "data.augmentation": ["Augmentation"],
        "data.errors": ["DataError"],
        "data.loading": ["load_segmentation_data"],
        "data.tiles": ["TileDataset"],
        "export.onnx_export": ["export_onnx"],
        "export.onnx_network": ["OnnxNetwork"],
        "export.seglab": ["convert_seglab_checkpoint"],
        "graphs.graph": ["centreline_graph"],
        "graphs.totals": ["graph_totals"],
        "hub.push": ["PushError", "push_adapter"],
        "inference.loading": ["load_network"],
        "inference.prediction": ["Prediction"],
        "inference.predictor": ["Predictor"],
        "network.configuration": ["TopoSamConfig"],
        "network.detail_branch": ["DetailBranch"],
        "network.segmenter": ["TopoSamForSegmentation"],
        "network.spatial_adapter": ["SpatialAdapter"],
        "objective.losses": ["Losses", "TopoLoss"],
        "objective.soft_skeleton": ["soft_skeletonize"],
        "training.arguments": ["TrainArguments"],
        "training.classes": ["TaskClasses"],
        "training.interruption": ["RunStopped"],
        "training.run": ["train"],
    },
)
