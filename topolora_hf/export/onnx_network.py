"""A network in an ONNX file, in the place of one in PyTorch."""

import json
from pathlib import Path

import torch
from torch import nn
from transformers.modeling_outputs import SemanticSegmenterOutput

from ..adapter_format.settings import AdapterSettings

# The name in the file's metadata under which the settings lie, as JSON.
SETTINGS_KEY = "topolora_config"


class OnnxNetwork(nn.Module):
    """What `export_onnx` wrote, run by onnxruntime; `Predictor` takes it as any network.

    Its `adapter_settings` come from the file's own metadata.

    Args:
        path: The `.onnx` file.
        num_threads: Of onnxruntime; by default torch's number.
        providers: What onnxruntime runs it on; by default the processor.

    Raises:
        ImportError: onnxruntime is not installed.
        FileNotFoundError: There is no such file.
        ValueError: onnxruntime cannot read it, or `export_onnx` did not write it.
    """

    __module__ = "topolora_hf"  # wherever the file lies

    def __init__(
        self, path: str | Path, num_threads: int | None = None, providers: tuple[str, ...] = ("CPUExecutionProvider",)
    ):
        super().__init__()
        onnxruntime = require("onnxruntime")
        if not Path(path).is_file():
            raise FileNotFoundError(f"no ONNX file at {path}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads or torch.get_num_threads()
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=list(providers))
        except Exception as error:  # its exceptions have no common class of their own
            raise ValueError(f"onnxruntime cannot read {path}: {error}") from error
        metadata = self.session.get_modelmeta().custom_metadata_map
        if SETTINGS_KEY not in metadata:
            raise ValueError(f"{path} holds no {SETTINGS_KEY} in its metadata: export_onnx did not write it")
        self.adapter_settings = AdapterSettings.from_dict(json.loads(metadata[SETTINGS_KEY]))

    def forward(self, pixel_values: torch.Tensor) -> SemanticSegmenterOutput:
        """(B, 3, T, T) -> `logits` (B, K, T, T), float32, on the same device, without a gradient."""
        tile_size = self.adapter_settings.tile_size
        if pixel_values.shape[1:] != (3, tile_size, tile_size):
            raise ValueError(f"the network takes (B, 3, {tile_size}, {tile_size}), got {tuple(pixel_values.shape)}")
        pixels = pixel_values.detach().float().cpu().contiguous().numpy()
        (logits,) = self.session.run(["logits"], {"pixel_values": pixels})
        return SemanticSegmenterOutput(logits=torch.from_numpy(logits).to(pixel_values.device))


def require(package: str):
    """The module of that name; ImportError says how to install what is missing."""
    try:
        return __import__(package)
    except ImportError as error:
        raise ImportError(f"ONNX needs the package {package}: pip install 'topolora_hf[export]'") from error
