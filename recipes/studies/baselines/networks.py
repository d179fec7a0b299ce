"""The baselines by name: random initial weights, one interface, one directory each."""

from pathlib import Path
from types import ModuleType

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import SegformerConfig, SegformerForSemanticSegmentation
from transformers.modeling_outputs import SemanticSegmenterOutput

from baselines.deeplab import DeepLabV3Plus
from baselines.mask2former import SemanticMask2Former
from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.network.detail_branch import resize_bilinear

_WEIGHTS = "model.safetensors"


class Baseline(nn.Module):
    """A network trained from scratch for one task, called as ours is.

    Attributes:
        name: its key in `BASELINES`.
        network: (B, 3, T, T) -> logits at a resolution of its own, as a tensor or as an output's `logits`.
        adapter_settings: what `Predictor` needs; None until it is trained or loaded.

    Shape:
        pixel_values (B, 3, T, T) -> `logits` (B, K, T, T)
    """

    def __init__(self, name: str, network: nn.Module, num_labels: int = 1):
        super().__init__()
        self.name, self.num_labels = name, num_labels
        self.network = network
        self.adapter_settings: AdapterSettings | None = None

    def forward(self, pixel_values: Tensor) -> SemanticSegmenterOutput:
        output = self.network(pixel_values)
        logits = output if isinstance(output, Tensor) else output.logits
        return SemanticSegmenterOutput(logits=resize_bilinear(logits, pixel_values.shape[-2:]))

    def save_pretrained(self, directory: str | Path) -> None:
        """Write `model.safetensors`, which names the network, and the settings; make the directory if needed."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        save_file(tensors, directory / _WEIGHTS, metadata={"baseline": self.name, "num_labels": str(self.num_labels)})
        self.adapter_settings.save(directory)


def _unet(num_labels: int) -> nn.Module:
    """MONAI's U-Net with its own widths: five levels, the first at full resolution (Falk et al. 2019)."""
    return _basic_unet(num_labels, 32, 32, 64, 128, 256, 32)


def _unet_small(num_labels: int) -> nn.Module:
    """The same at half the width."""
    return _basic_unet(num_labels, 16, 16, 32, 64, 128, 16)


def _basic_unet(num_labels: int, *widths: int) -> nn.Module:
    form = {"spatial_dims": 2, "in_channels": 3, "out_channels": num_labels, "norm": "batch", "bias": False}
    return _monai_networks().BasicUNet(features=widths, **form)


def _monai_networks() -> ModuleType:
    try:
        from monai.networks import nets
    except ImportError as error:
        raise ImportError("the U-Nets are MONAI's: pip install 'topolora_hf[studies]'") from error
    return nets


class NnUNet(nn.Module):
    """The U-Net that nnU-Net would choose for tiles of 256 pixels (Isensee et al. 2021).

    doi:10.1038/s41592-020-01008-z. MONAI's `DynUNet`: seven levels of 32 to 512 channels, the coarsest of 4 x 4 pixels,
    instance norms, 33.5 million parameters. It is trained as the other baselines are, without nnU-Net's deep
    supervision, its optimizer and its 250,000 steps.
    """

    _STRIDE = 64
    _LEAST = 128  # pixels a side, below which nothing is left to normalise

    def __init__(self, num_labels: int):
        super().__init__()
        widths, halvings = [32, 64, 128, 256, 512, 512, 512], [2] * 6
        norm = ("instance", {"affine": True})
        kernels, strides = [3] * 7, [1, *halvings]
        build = _monai_networks().DynUNet
        self.network = build(2, 3, num_labels, kernels, strides, halvings, widths, norm_name=norm)

    def forward(self, pixel_values: Tensor) -> Tensor:
        height, width = pixel_values.shape[-2:]
        below, beside = (max(-side % self._STRIDE, self._LEAST - side) for side in (height, width))
        return self.network(F.pad(pixel_values, (0, beside, 0, below)))[..., :height, :width]


def _segformer(num_labels: int) -> nn.Module:
    """SegFormer of size B0, the configuration's default (Xie et al. 2021, arXiv 2105.15203); logits at T/4."""
    return SegformerForSemanticSegmentation(SegformerConfig(num_labels=num_labels))


BASELINES = {
    "unet": _unet,
    "unet_small": _unet_small,
    "nnunet": NnUNet,
    "deeplabv3plus": DeepLabV3Plus,
    "segformer": _segformer,
    "mask2former": lambda num_labels: SemanticMask2Former(),
}


def create_baseline(name: str, num_labels: int = 1) -> Baseline:
    """Create a baseline with random initial weights, all of them trained; nothing is downloaded.

    Args:
        name: a key of `BASELINES`.
        num_labels: K, its number of maps.

    Raises:
        ValueError: for an unknown name, or K > 1 of a network that has one map.

    Example:
        >>> import torch
        >>> create_baseline("unet_small").eval()(torch.zeros(1, 3, 48, 48)).logits.shape
        torch.Size([1, 1, 48, 48])
    """
    if name not in BASELINES:
        raise ValueError(f"unknown baseline {name!r}: one of {', '.join(BASELINES)}")
    if num_labels > 1 and name == "mask2former":
        raise ValueError(f"the baseline mask2former has a single map, not {num_labels}")
    return Baseline(name, BASELINES[name](num_labels), num_labels)


def load_baseline(directory: str | Path) -> Baseline:
    """Load what `Baseline.save_pretrained` wrote, in evaluation mode.

    Raises:
        OSError: a file is not there.
        ValueError: a file cannot be read, names an unknown baseline, or holds other tensors than that baseline has.
    """
    weights = Path(directory) / _WEIGHTS
    if not weights.is_file():
        raise FileNotFoundError(f"{directory} holds no {_WEIGHTS}: it is not a baseline's directory")
    try:
        with safe_open(weights, "pt") as file:
            stored = file.metadata() or {}
            model = create_baseline(stored.get("baseline", ""), int(stored.get("num_labels", 1)))
        model.load_state_dict(load_file(weights))
    except SafetensorError as error:
        raise ValueError(f"{weights} cannot be read as safetensors: {error}") from error
    except RuntimeError as error:  # names every missing, unexpected and mis-shaped tensor
        raise ValueError(f"{weights} does not fit the network {model.name}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{weights}: {error}") from error
    model.adapter_settings = AdapterSettings.from_pretrained(directory)
    return model.eval()
