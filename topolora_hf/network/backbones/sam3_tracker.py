"""The tracker of SAM 3 (Carion et al. 2025, arXiv 2511.16719), of single images: a ViT with rotary positions.

Its detector, which finds what a text names, has no mask without a text, and is left out when a checkpoint is read.
"""

from importlib import import_module

import torch
from torch import nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel, Sam3TrackerModel
from transformers.models.sam2.modeling_sam2 import window_partition, window_unpartition

from ..encoder import checkpointed
from ..feed_forward import add_feed_forward
from . import sam2 as of_sam2

_FINE_LEVELS = 3  # of the neck; a mask takes no coarser one


class Backbone(of_sam2.Backbone):
    """As SAM 2's, with SAM 3's encoder and neck, whose patches are of 14 pixels: strides 3.5, 7 and 14.

    As in `Sam3TrackerModel`, `no_memory_embedding` is added to the neck's last map. In the published configuration no
    mask takes that map.
    """

    model_class = Sam3TrackerModel

    def build(self, config: PreTrainedConfig) -> PreTrainedModel:
        """Build transformers' model from a `TopoSamConfig`, with random weights.

        transformers hides SAM 3's encoder where torchvision is not installed, which only its detector needs.
        """
        modeling = import_module("transformers.models.sam3.modeling_sam3")
        for model in (modeling.Sam3VisionModel, modeling.Sam3ViTModel):
            AutoModel.register(model.config_class, model, exist_ok=True)
        return super().build(config)

    def encode(self, sam: nn.Module, pixels: torch.Tensor, fast: bool) -> tuple[torch.Tensor, tuple]:
        """(B, 3, S, S) -> image embedding (B, C, S/14, S/14), and the decoder's maps at strides 3.5 and 7."""
        trunk, neck = sam.vision_encoder.backbone, sam.vision_encoder.neck
        height, width = (side // trunk.config.patch_size for side in pixels.shape[-2:])
        tokens = trunk.layer_norm(trunk.embeddings(pixels).unflatten(1, (height, width)))
        fast = fast and not trunk.config.hidden_dropout
        for layer in trunk.layers:
            tokens = checkpointed(layer, _run_layer if fast else _run_plain_layer, tokens)
        image = tokens.permute(0, 3, 1, 2)
        fine, middle, embedding = (level(image) for level in neck.fpn_layers[:_FINE_LEVELS])
        if len(neck.fpn_layers) == _FINE_LEVELS:
            return self._with_finer(sam, fine, middle, embedding)
        return embedding, (sam.mask_decoder.conv_s0(fine), sam.mask_decoder.conv_s1(middle))

    @torch.no_grad()
    def fix_size(self, sam: nn.Module, size: int) -> None:
        """Bring the positions to images of `size` pixels a side, once and for all: for an export."""
        trunk = sam.vision_encoder.backbone
        for layer in trunk.layers:
            side = layer.window_size or size // trunk.config.patch_size
            layer.rotary_emb = _FixedRotation(*layer.rotary_emb(layer.position_ids, _positions(layer, side, side)))


class _FixedRotation(nn.Module):
    """Cosines and sines of one size, in the place of a `Sam3ViTRotaryEmbedding`."""

    def __init__(self, cos: torch.Tensor, sin: torch.Tensor):
        super().__init__()
        self.register_buffer("cos", cos)
        self.register_buffer("sin", sin)

    def forward(self, tokens: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.cos, self.sin


def _run_layer(layer: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    return add_feed_forward(layer, tokens + _attend(layer, layer.layer_norm1(tokens)))


def _run_plain_layer(layer: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """What a `Sam3ViTLayer` computes, (B, h, w, C) -> (B, h, w, C), for a map of any size."""
    tokens = tokens + _attend(layer, layer.layer_norm1(tokens))
    return tokens + layer.dropout(layer.mlp(layer.layer_norm2(tokens)))


def _attend(layer: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """Attention of a layer, in its windows or over the whole map."""
    size, window = tokens.shape[1:3], layer.window_size
    if window:
        tokens, padded = window_partition(tokens, window)
    attended, _ = layer.attention(tokens, layer.rotary_emb(tokens, _positions(layer, *tokens.shape[1:3])))
    return window_unpartition(attended, window, padded, size) if window else attended


def _positions(layer: nn.Module, height: int, width: int) -> torch.Tensor:
    """(h * w, 2): columns and rows of tokens, scaled to a window; the layer's own where it has that size."""
    own = layer.config.image_size
    side = layer.window_size or (own if isinstance(own, int) else own[0]) // layer.config.patch_size
    if height == width == side:
        return layer.position_ids
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    positions = torch.stack([columns.flatten(), rows.flatten()], dim=-1) * (layer.config.window_size / width)
    return positions.to(layer.position_ids.device)
