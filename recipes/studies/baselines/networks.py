"""The specialists by name, each with random initial weights, under one interface."""

from monai.networks.nets import BasicUNet
from torch import Tensor, nn
from transformers import SegformerConfig, SegformerForSemanticSegmentation
from transformers.modeling_outputs import SemanticSegmenterOutput

from topolora_hf.network.detail_branch import resize_bilinear
from baselines.deeplab import DeepLabV3Plus
from baselines.mask2former import SemanticMask2Former


class Specialist(nn.Module):
    """A network trained from scratch for one task, called as ours is.

    Attributes:
        name: its key in `SPECIALISTS`.
        network: (B, 3, T, T) -> logits at a resolution of its own, as a tensor or as an output's `logits`.
        adapter_settings: what `Predictor` needs, from the directory that it was loaded from; None when newly built.

    Shape:
        pixel_values (B, 3, T, T) -> `logits` (B, 1, T, T)
    """

    def __init__(self, name: str, network: nn.Module):
        super().__init__()
        self.name = name
        self.network = network
        self.adapter_settings = None

    def forward(self, pixel_values: Tensor) -> SemanticSegmenterOutput:
        output = self.network(pixel_values)
        logits = output if isinstance(output, Tensor) else output.logits
        return SemanticSegmenterOutput(logits=resize_bilinear(logits, pixel_values.shape[-2:]))


def _unet() -> nn.Module:
    """MONAI's U-Net with its own widths: five levels, the first at full resolution (Falk et al. 2019)."""
    return _basic_unet(32, 32, 64, 128, 256, 32)


def _unet_small() -> nn.Module:
    """The same at half the width."""
    return _basic_unet(16, 16, 32, 64, 128, 16)


def _basic_unet(*widths: int) -> BasicUNet:
    return BasicUNet(spatial_dims=2, in_channels=3, out_channels=1, features=widths, norm="batch", bias=False)


def _segformer() -> nn.Module:
    """SegFormer of size B0, the configuration's default (Xie et al. 2021, arXiv 2105.15203); logits at T/4."""
    return SegformerForSemanticSegmentation(SegformerConfig(num_labels=1))


SPECIALISTS = {
    "unet": _unet,
    "unet_small": _unet_small,
    "deeplabv3plus": DeepLabV3Plus,
    "segformer": _segformer,
    "mask2former": SemanticMask2Former,
}


def build_specialist(name: str) -> Specialist:
    """A specialist with random initial weights, every one of which is trained; nothing is downloaded.

    Args:
        name: a key of `SPECIALISTS`.

    Raises:
        ValueError: for an unknown name.

    Example:
        >>> import torch
        >>> from topolora_hf.specialists import build_specialist
        >>> build_specialist("unet_small").eval()(torch.zeros(1, 3, 48, 48)).logits.shape
        torch.Size([1, 1, 48, 48])
    """
    if name not in SPECIALISTS:
        raise ValueError(f"unknown specialist {name!r}: one of {', '.join(SPECIALISTS)}")
    return Specialist(name, SPECIALISTS[name]())
