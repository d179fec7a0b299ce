"""Mask2Former (Cheng et al. 2022, arXiv 2112.01527) as a semantic segmenter of one class."""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

_WIDTH = 128


class SemanticMask2Former(nn.Module):
    """A small Mask2Former with a Swin backbone, reduced to the logits of its semantic map.

    It is trained by this package's loss on that map, like every other network here, and not by the matching of queries
    to objects of its paper: a binary mask of thin structures holds no objects to be matched.

    Shape:
        (B, 3, T, T) -> logits (B, 1, T/4, T/4)
    """

    def __init__(self):
        super().__init__()
        backbone = SwinConfig(
            embed_dim=48,
            depths=(2, 2, 2, 2),
            num_heads=(2, 4, 8, 16),
            window_size=8,  # divides the feature maps of a 256-pixel tile; 7 would pad each of them
            out_features=["stage1", "stage2", "stage3", "stage4"],
        )
        config = Mask2FormerConfig(
            backbone_config=backbone,
            feature_size=_WIDTH,
            mask_feature_size=_WIDTH,
            hidden_dim=_WIDTH,
            encoder_feedforward_dim=4 * _WIDTH,
            dim_feedforward=4 * _WIDTH,
            encoder_layers=3,
            decoder_layers=4,
            num_queries=20,
            num_labels=2,  # background, foreground; "no object" comes on top
        )
        self.segmenter = Mask2FormerForUniversalSegmentation(config)
        # The norm of Swin's last state: the backbone norms the features of every stage itself and leaves this one out.
        self.segmenter.model.pixel_level_module.encoder.swin.layernorm = nn.Identity()

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        output = self.segmenter(pixel_values)
        return semantic_logits(output.class_queries_logits, output.masks_queries_logits)


def semantic_logits(class_logits: torch.Tensor, mask_logits: torch.Tensor) -> torch.Tensor:
    """The logit of foreground from class and mask queries.

    The score of class c at a pixel is Mask2Former's own, s_c = sum over queries of softmax(class)_c sigmoid(mask),
    without the class "no object". The logit is log s_foreground - log s_background: its sigmoid is the foreground's
    share of the two scores, and 0.5 is where the larger of them changes.

    Args:
        class_logits: (B, queries, 3): background, foreground, no object.
        mask_logits: (B, queries, h, w).

    Returns:
        (B, 1, h, w), float32.
    """
    # Sums of logarithms throughout: a score itself can be smaller than any float, and its gradient then nothing.
    of_classes = class_logits.float().log_softmax(dim=-1)[..., None, None]
    of_masks = F.logsigmoid(mask_logits.float())
    background, foreground = ((of_classes[:, :, c] + of_masks).logsumexp(dim=1, keepdim=True) for c in (0, 1))
    return foreground - background
