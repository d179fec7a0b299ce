"""In from, and out to, other forms: the authors' checkpoints, ONNX, plain networks; one command for all of them."""

from .command import ConvertArguments, convert
from .onnx_export import export_onnx
from .onnx_network import OnnxNetwork
from .seglab import convert_seglab_checkpoint

__all__ = ["ConvertArguments", "OnnxNetwork", "convert", "convert_seglab_checkpoint", "export_onnx"]
