"""A network with its adapter merged, as one self-sufficient ONNX file."""

import copy
import json
import warnings
from dataclasses import asdict
from pathlib import Path

import torch
from peft import PeftModel
from torch import nn

from ..adapter_format.form import NetworkForm
from ..adapter_format.settings import AdapterSettings
from ..adapters.loading import merge_adapter
from ..files import whole_file
from ..network.segmenter import TopoSamForSegmentation
from ..network.tile_scaling import TileScaling, resize_antialiased
from .onnx_network import SETTINGS_KEY, require

_OPSET = 18
_LARGEST = 2**31  # bytes of a protobuf message


def export_onnx(model: nn.Module, path: str | Path) -> Path:
    """Write a network as an ONNX file, which `OnnxNetwork` reads.

    It takes `pixel_values` (B, 3, T, T), and gives `logits` (B, K, T, T); B is free, T is the adapter's tile size. The
    settings (threshold, normalisation, ...) lie in the file's metadata.

    Args:
        model: What `load_adapter` returns, with the adapter that is active, or a `TopoSamForSegmentation`. It is left
            as it is.
        path: Of the file, by convention `NAME.onnx`. A file that is there is replaced when the new one is whole.

    Raises:
        ImportError: The packages of extra `export` are not installed.
        ValueError: The weights are too large for one ONNX file (2 GB).
    """
    onnx = require("onnx")
    settings = getattr(model, "adapter_settings", None)
    network = merge_adapter(model) if isinstance(model, PeftModel) else copy.deepcopy(model)
    settings = settings or AdapterSettings.of_network(network)
    size = sum(tensor.numel() * 4 for tensor in network.state_dict().values())
    if size > _LARGEST:
        raise ValueError(f"the network has {size / 2**30:.1f} GB of weights, an ONNX file holds at most 2 GB")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as unfinished:
        _export(network, unfinished)
        exported = onnx.load(unfinished)
        onnx.helper.set_model_props(exported, {SETTINGS_KEY: json.dumps(asdict(settings))})
        onnx.save(exported, unfinished)
    return path


def _export(network: TopoSamForSegmentation, path: Path) -> None:
    """By tracing: torch's other exporter takes thirty times as long for the same graph, and needs more packages."""
    network = network.cpu().float().eval()
    network.config.fast_encoder = False  # operators written for training; these are transformers' plain ones
    tiles = torch.zeros(2, 3, network.tile_scaling.tile_size, network.tile_scaling.tile_size)
    _fix_sizes(network)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, about sizes, which are fixed here; and of its deprecation
        torch.onnx.export(
            _Logits(network),
            (tiles,),
            path,
            input_names=["pixel_values"],
            output_names=["logits"],
            dynamic_axes={"pixel_values": {0: "batch"}, "logits": {0: "batch"}},
            opset_version=_OPSET,
            dynamo=False,
        )


@torch.no_grad()
def _fix_sizes(network: TopoSamForSegmentation) -> None:
    """Whatever depends on S and T alone becomes a constant: the resize, and the positions brought to S."""
    network.backbone.fix_size(network.sam, network.tile_scaling.image_size)
    network.tile_scaling = _FixedScaling(network.tile_scaling, network.config.form)


class _FixedScaling(TileScaling):
    """A resize as a product with one matrix for rows and columns: ONNX's exporter has no antialiased one."""

    def __init__(self, scaling: TileScaling, form: NetworkForm):
        super().__init__(form)
        rows = torch.eye(scaling.tile_size)[None, None]
        # Each column of the identity is an image of one row of pixels; resizing it gives a column of the matrix.
        matrix = resize_antialiased(rows, (scaling.image_size, scaling.tile_size))[0, 0]
        self.register_buffer("matrix", None if scaling.image_size == scaling.tile_size else matrix)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return pixel_values if self.matrix is None else self.matrix @ pixel_values @ self.matrix.T


class _Logits(nn.Module):
    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.network(pixel_values).logits
