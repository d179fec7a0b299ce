"""EdgeTAM (Zhou et al. 2025, arXiv 2501.07256), of single images: SAM 2 with a small convolutional encoder, RepViT.

The encoder is timm's, which brings torchvision: `pip install timm`.
"""

import torch
from torch import nn
from transformers import EdgeTamModel

from . import sam2 as of_sam2


class Backbone(of_sam2.Backbone):
    """As SAM 2's, with timm's stages in the place of Hiera's."""

    model_class = EdgeTamModel

    def _run_stages(self, sam: nn.Module, pixels: torch.Tensor, fast: bool) -> list[torch.Tensor]:
        return sam.vision_encoder.backbone(pixels).last_hidden_state

    def fix_size(self, sam: nn.Module, size: int) -> None:
        """Do nothing: there are no positions."""
