"""DeepLabV3+ (Chen et al. 2018, arXiv 1802.02611) on transformers' MobileNetV2.

`MobileNetV2ForSemanticSegmentation` goes by that name in transformers, but has one 1x1 convolution for the pyramid of
atrous ones, and no decoder: its logits come at 1/16 of the image. Both parts are therefore written here.
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import MobileNetV2Config, MobileNetV2Model

from topolora_hf.network.detail_branch import resize_bilinear

_RATES = (6, 12, 18)  # the paper's, for features at 1/16
_WIDTH = 256
_LOW_LEVEL_WIDTH = 48
_DROPOUT = 0.1


class DeepLabV3Plus(nn.Module):
    """Atrous spatial pyramid over features at 1/16, refined by a decoder with features at 1/4.

    Shape:
        (B, 3, T, T) -> logits (B, 1, T/4, T/4)
    """

    def __init__(self, num_labels: int = 1):
        super().__init__()
        self.backbone = _mobile_net()
        self.pyramid = AtrousPyramid(320)
        self.reduce = _convolution(24, _LOW_LEVEL_WIDTH, 1)
        self.decoder = nn.Sequential(
            *_separable_convolution(_WIDTH + _LOW_LEVEL_WIDTH, _WIDTH), *_separable_convolution(_WIDTH, _WIDTH)
        )
        self.classifier = nn.Conv2d(_WIDTH, num_labels, 1)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        features = self.backbone(pixel_values, output_hidden_states=True).hidden_states
        low_level = self.reduce(features[1])  # the last block at 1/4
        high_level = resize_bilinear(self.pyramid(features[-1]), low_level.shape[-2:])
        return self.classifier(self.decoder(torch.cat([high_level, low_level], dim=1)))


class AtrousPyramid(nn.Module):
    """Parallel views of the features at several scales: one pixel, three atrous rates, the full image.

    Shape:
        (B, channels, h, w) -> (B, 256, h, w)
    """

    def __init__(self, channels: int):
        super().__init__()
        self.scales = nn.ModuleList([_convolution(channels, _WIDTH, 1)])
        self.scales.extend(_separable_convolution(channels, _WIDTH, rate) for rate in _RATES)
        # No norm: it would be taken over a batch of single pixels, four numbers a channel.
        self.full_image = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, _WIDTH, 1), nn.ReLU())
        self.fuse = _convolution((len(self.scales) + 1) * _WIDTH, _WIDTH, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        views = [scale(features) for scale in self.scales]
        views.append(self.full_image(features).expand_as(views[0]))
        return F.dropout(self.fuse(torch.cat(views, dim=1)), _DROPOUT, self.training)


def _mobile_net() -> MobileNetV2Model:
    backbone = MobileNetV2Model(MobileNetV2Config(output_stride=16, tf_padding=False), add_pooling_layer=False)
    backbone.conv_1x1 = nn.Identity()  # feeds the classifier of images only
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            # transformers takes over TensorFlow's 0.997, which in PyTorch is the weight of the newest batch, not of
            # the past: predictions would rest on the statistics of the last batch alone.
            module.momentum = 0.1
    return backbone


def _convolution(inputs: int, outputs: int, size: int, **options) -> nn.Sequential:
    padding = options.get("dilation", 1) * (size // 2)
    convolution = nn.Conv2d(inputs, outputs, size, padding=padding, bias=False, **options)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def _separable_convolution(inputs: int, outputs: int, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        _convolution(inputs, inputs, 3, groups=inputs, dilation=dilation), _convolution(inputs, outputs, 1)
    )
