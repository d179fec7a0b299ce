"""What it costs to have several adapters on one base, and what another runtime gains: each builds one `Workload`."""

import tempfile
from itertools import cycle
from pathlib import Path

import torch

from benchmark.measure import Workload
from benchmark.networks import NetworkShape, fill_with_random_weights
from topolora_hf.adapter_format.names import TINY
from topolora_hf.adapters.creation import create_adapter
from topolora_hf.export.onnx_export import export_onnx
from topolora_hf.export.onnx_network import OnnxNetwork
from topolora_hf.network.segmenter import TopoSamForSegmentation

LABELS = {
    "switch": "`set_adapter`, to and fro between two",
    "torch": "PyTorch",
    "onnxruntime": "onnxruntime",
}
_TILES = 4
_MOST_DIFFERENCE = 1e-3  # of a logit


def adapters_in_turn(shape: NetworkShape) -> Workload:
    """Switching between two adapters of the default preset on one base: the time of one switch."""
    model = create_adapter(fill_with_random_weights(TopoSamForSegmentation(shape.config())), "topolora")
    model.add_adapter("other", model.peft_config["default"])
    names = cycle(["other", "default"])
    return Workload(lambda: model.set_adapter(next(names)))


def tiles_through(runtime: str) -> Workload:
    """Logits of four tiles by the embedded base with a merged adapter: by `"torch"`, or by `"onnxruntime"`.

    Raises:
        ArithmeticError: the two give other logits.
    """
    torch.manual_seed(0)
    model = create_adapter(TopoSamForSegmentation.from_pretrained(TINY), "topolora")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    network = model.merge_and_unload().eval()
    size = network.config.tile_size
    run = network
    if runtime == "onnxruntime":
        with tempfile.TemporaryDirectory() as folder:
            run = OnnxNetwork(export_onnx(network, Path(folder) / "network.onnx"))
        _check_parity(network, run, torch.randn(2, 3, size, size))
        del network
    return Workload(
        torch.inference_mode()(lambda pixel_values: run(pixel_values=pixel_values).logits),
        draw=lambda: (torch.randn(_TILES, 3, size, size).contiguous(memory_format=torch.channels_last),),
        items=_TILES,
    )


@torch.inference_mode()
def _check_parity(network: torch.nn.Module, other: torch.nn.Module, tiles: torch.Tensor) -> None:
    difference = (network(pixel_values=tiles).logits - other(pixel_values=tiles).logits).abs().max().item()
    if not difference <= _MOST_DIFFERENCE:
        raise ArithmeticError(f"onnxruntime's logits differ by {difference:.1e} from PyTorch's")
