"""The paper's spatial adapter: a residual depthwise-separable convolution on SAM's image embedding."""

import torch
from torch import nn


class ZeroConv2d(nn.Conv2d):
    """A convolution that starts at zero, so that what it adds to a frozen network starts as nothing.

    transformers initialises leaf modules by their class; a class of its own is how a layer says "zero".
    """

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class SpatialAdapter(nn.Module):
    """Refines the image embedding `z` by `z + f(z)`; `f` ends in a zero-initialised layer.

    Args:
        channels: C, channels of the image embedding (256 for stock SAM).
        form: `"paper"` (arXiv 2601.02273, section 3): depthwise 3x3, ReLU, pointwise, with biases
            (68,352 parameters at C = 256). `"seglab"` (the authors' published code): depthwise 3x3, pointwise,
            BatchNorm, GELU, pointwise, without biases (133,888 parameters at C = 256).

    Shape:
        (B, C, h, w) -> (B, C, h, w)
    """

    __module__ = "topolora_hf"  # wherever the file lies

    def __init__(self, channels: int, form: str = "paper"):
        super().__init__()
        bias = form == "paper"
        depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=bias)
        pointwise_out = ZeroConv2d(channels, channels, 1, bias=bias)
        if form == "paper":
            self.refine = nn.Sequential(depthwise, nn.ReLU(), pointwise_out)
        else:
            pointwise_in = nn.Conv2d(channels, channels, 1, bias=False)
            self.refine = nn.Sequential(depthwise, pointwise_in, nn.BatchNorm2d(channels), nn.GELU(), pointwise_out)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        return embedding + self.refine(embedding)
