"""A small convolutional branch that restores what SAM's quarter-resolution logits cannot show."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from .spatial_adapter import ZeroConv2d

_CONTEXT_DILATIONS = (1, 2, 4, 2, 1)
STRIDE = 8  # of the coarsest maps, the context's: sides of what is seen without SAM are multiples of it


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a (B, C, H, W) map: no batch statistics, so batch size 1 trains as any other.

    It runs in the features' own precision (statistics are float32 inside): autocast would make full-resolution copies.
    """

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        weight, bias = self.weight.to(features.dtype), self.bias.to(features.dtype)
        # On a CPU, PyTorch sums the gradients of both over all pixels in bfloat16 itself, which leaves little of them.
        is_apart = torch.is_grad_enabled() and features.device.type == "cpu" and features.dtype == torch.bfloat16
        fused = (None, None) if is_apart else (weight, bias)
        with torch.autocast(features.device.type, enabled=False):
            normed = F.layer_norm(features.permute(0, 2, 3, 1), self.normalized_shape, *fused, self.eps)
        return (normed * weight + bias if is_apart else normed).permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """`x + conv(ReLU(norm(conv(x))))`, (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv_in = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = ChannelNorm(channels, eps=1e-6)
        self.conv_out = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + self.conv_out(F.relu(self.norm(self.conv_in(features))))


class ContextBlock(ResidualBlock):
    """A residual block that looks further: its first convolution is dilated (Yu and Koltun 2016, arXiv 1511.07122).

    It starts as the identity.
    """

    def __init__(self, channels: int, dilation: int):
        super().__init__(channels)
        self.conv_in = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False)
        self.conv_out = ZeroConv2d(channels, channels, 3, padding=1)


class Context(nn.Sequential):
    """Adds to each position what lies around it, (B, C, H, W) -> (B, C, H, W): `x + up(blocks(pool(x)) - pool(x))`.

    The blocks work at half of its input's resolution, where they see twice as far for a quarter of the operations.
    """

    def __init__(self, channels: int):
        super().__init__(*(ContextBlock(channels, dilation) for dilation in _CONTEXT_DILATIONS))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        pooled = F.avg_pool2d(features, 2)
        return features + resize_bilinear(super().forward(pooled) - pooled, features.shape[-2:])


class SamFeatures(NamedTuple):
    """What SAM makes of a batch of tiles.

    Attributes:
        coarse_logits: (B, K, S/4, S/4), its first mask, and those of the further classes.
        upscaled: (B, C/8, S/4, S/4), the decoder's embedding from which these masks are made.
        embedding: (B, C, S/16, S/16), the image embedding, refined by the spatial adapter.
        finer: maps that are finer than the embedding, in families that have them.
    """

    coarse_logits: torch.Tensor
    upscaled: torch.Tensor
    embedding: torch.Tensor
    finer: tuple[torch.Tensor, ...] = ()


class FuseFiner(nn.Module):
    """Brings maps of several sizes to `channels` each, and to one size, and adds them up."""

    def __init__(self, widths: Sequence[int], channels: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(width, channels, 1, bias=False) for width in widths)

    def forward(self, maps: Sequence[torch.Tensor], size: torch.Size) -> torch.Tensor:
        return sum(resize_bilinear(layer(each), size) for layer, each in zip(self.layers, maps, strict=True))


class DetailBranch(nn.Module):
    """Corrects SAM's logits at the tile's own resolution.

    Looks at the tile at strides 1, 2 and 4, takes in what SAM saw at stride 4, and adds a correction at stride 1. Its
    last layer starts at zero: a new network gives SAM's logits.

    Args:
        channels: Channels at stride 1; twice and four times as many at strides 2 and 4.
        embedding_channels: C, channels of SAM's image embedding; the decoder's upscaled embedding has C / 8.
        num_labels: K, the number of logit maps.
        context: Whether `Context` follows at stride 4, which sees some 130 pixels further.
        finer_channels: Channels of each map of `SamFeatures.finer`, which are taken in at stride 4, too.

    Shape:
        pixel_values (B, 3, T, T), from_sam `SamFeatures` -> (B, K, T, T)
    """

    __module__ = "topolora_hf"  # wherever the file lies

    def __init__(
        self,
        channels: int,
        embedding_channels: int,
        num_labels: int,
        context: bool = False,
        finer_channels: Sequence[int] = (),
    ):
        super().__init__()
        self.channels = channels
        c1, c2, c4 = channels, 2 * channels, 4 * channels
        self.stem = nn.Conv2d(3, c1, 3, padding=1)
        self.encode1 = ResidualBlock(c1)
        self.down2 = nn.Conv2d(c1, c2, 2, stride=2)
        self.encode2 = ResidualBlock(c2)
        self.down4 = nn.Conv2d(c2, c4, 2, stride=2)
        self.fuse = nn.Conv2d(embedding_channels // 8 + 1, c4, 1)
        self.fuse_context = nn.Conv2d(embedding_channels, c4, 1, bias=False)
        self.fuse_finer = FuseFiner(finer_channels, c4) if finer_channels else None
        self.encode4 = nn.Sequential(ResidualBlock(c4), ResidualBlock(c4))
        self.context = Context(c4) if context else None
        self.up2 = nn.ConvTranspose2d(c4, c2, 2, stride=2)
        self.decode2 = ResidualBlock(c2)
        self.up1 = nn.ConvTranspose2d(c2, c1, 2, stride=2)
        self.decode1 = ResidualBlock(c1)
        self.norm = ChannelNorm(c1, eps=1e-6)
        self.correction = ZeroConv2d(c1, num_labels, 3, padding=1)

    @property
    def receptive_radius(self) -> int:
        """Pixels in each direction that a logit depends on, without SAM; at most, as it depends on the place."""
        at_1, at_2, at_4 = 6, 4, 4  # 3 x 3 convolutions: stem, encode1, decode1, correction; encode2, decode2; encode4
        radius = at_1 + 2 * at_2 + 4 * at_4 + STRIDE  # and the grid's
        if self.context is not None:  # a dilated and a plain convolution a block, and resizing
            radius += STRIDE * (sum(dilation + 1 for dilation in _CONTEXT_DILATIONS) + 1)
        return radius

    def forward(self, pixel_values: torch.Tensor, from_sam: SamFeatures | None) -> torch.Tensor:
        full = self.encode1(self.stem(pixel_values))
        half = self.encode2(self.down2(full))
        quarter = self.down4(half)
        if from_sam is not None:
            quarter = quarter + self._fuse(from_sam, quarter.shape[-2:])
        quarter = self.encode4(quarter)
        if self.context is not None:
            quarter = self.context(quarter)
        half = self.decode2(half + self.up2(quarter))
        full = self.decode1(full + self.up1(half))
        return self.correction(F.relu(self.norm(full)))

    def _fuse(self, from_sam: SamFeatures, size: torch.Size) -> torch.Tensor:
        fine = self.fuse(torch.cat([from_sam.coarse_logits[:, :1], from_sam.upscaled], dim=1))
        context = self.fuse_context(from_sam.embedding)
        fused = resize_bilinear(fine, size) + resize_bilinear(context, size)
        return fused if self.fuse_finer is None else fused + self.fuse_finer(from_sam.finer, size)


def resize_bilinear(features: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """(B, C, h, w) -> (B, C, *size); untouched, to the bit, when it has that size."""
    if features.shape[-2:] == size:
        return features
    return F.interpolate(features, tuple(size), mode="bilinear", align_corners=False)
