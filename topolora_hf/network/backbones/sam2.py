"""SAM 2 and 2.1 (Ravi et al. 2024, arXiv 2408.00714), of single images: Hiera, a feature pyramid, SAM's decoder.

What its video model has beside that (memory, object pointers) is left out when a checkpoint is read.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn
from transformers import Sam2Model
from transformers.models.sam2.modeling_sam2 import do_pool, window_partition, window_unpartition

from ..detail_branch import SamFeatures
from ..encoder import checkpointed
from ..feed_forward import add_feed_forward
from . import sam as of_sam


class Backbone(of_sam.Backbone):
    """SAM 2: the first mask at stride 4, from an embedding at stride 16 and the pyramid's maps at strides 4 and 8.

    The first mask is that of the first token. In evaluation mode `Sam2Model` shows another one where it takes that for
    unstable (`dynamic_multimask_via_stability`): no network of this package does.
    """

    model_class = Sam2Model

    def finer_channels(self, sam: nn.Module) -> tuple[int, ...]:
        """Give the channels of the maps at strides 4 and 8, as the decoder takes them."""
        return sam.mask_decoder.conv_s0.out_channels, sam.mask_decoder.conv_s1.out_channels

    def encode(self, sam: nn.Module, pixels: torch.Tensor, fast: bool) -> tuple[torch.Tensor, tuple]:
        """(B, 3, S, S) -> image embedding (B, C, S/16, S/16), and the decoder's maps at strides 4 and 8."""
        pyramid = build_pyramid(sam.vision_encoder, self._run_stages(sam, pixels, fast))
        return self._with_finer(sam, *pyramid)

    def _with_finer(self, sam: nn.Module, s4: torch.Tensor, s8: torch.Tensor, s16: torch.Tensor) -> tuple:
        decoder = sam.mask_decoder
        embedding = s16 + sam.no_memory_embedding.reshape(1, -1, 1, 1)
        return embedding, (decoder.conv_s0(s4), decoder.conv_s1(s8))

    def _run_stages(self, sam: nn.Module, pixels: torch.Tensor, fast: bool) -> list[torch.Tensor]:
        """Give the maps (B, C_i, h_i, w_i) of the encoder's stages, from fine to coarse."""
        trunk = sam.vision_encoder.backbone
        tokens = trunk.patch_embed(pixels)
        tokens = tokens + _positions(trunk, tokens.shape[1:3])
        stages = []
        for number, block in enumerate(trunk.blocks):
            tokens = checkpointed(block, run_block, tokens) if fast else block(tokens)
            if number in trunk.stage_ends:
                stages.append(tokens.permute(0, 3, 1, 2))
        return stages

    def decode(
        self, sam: nn.Module, embedding: torch.Tensor, encoded: tuple, class_masks: Callable | None = None
    ) -> SamFeatures:
        """Run the mask decoder without prompts, as `Sam2MaskDecoder.forward`; the score heads are left out.

        In the place of prompts stand two tokens of "no point", as in transformers.
        """
        decoder, act = sam.mask_decoder, sam.mask_decoder.activation
        s4, s8 = encoded
        no_point = sam.prompt_encoder.not_a_point_embed.weight
        tokens = [decoder.obj_score_token.weight, decoder.iou_token.weight, decoder.mask_tokens.weight]
        queries, image = self._attend(sam, torch.cat([*tokens, no_point, no_point], dim=0), embedding)
        image = act(decoder.upscale_layer_norm(decoder.upscale_conv1(image) + s8))
        image = act(decoder.upscale_conv2(image) + s4)
        weights = of_sam.mask_weights(decoder, queries[:, 2], class_masks)
        return SamFeatures((weights @ image.flatten(2)).unflatten(2, image.shape[-2:]), image, embedding, encoded)

    @torch.no_grad()
    def fix_size(self, sam: nn.Module, size: int) -> None:
        """Bring the positions to images of `size` pixels a side, once and for all: for an export."""
        trunk = sam.vision_encoder.backbone
        positions = _positions(trunk, torch.Size((size // 4,) * 2))
        trunk.pos_embed = nn.Parameter(positions.permute(0, 3, 1, 2))
        trunk.pos_embed_window = nn.Parameter(torch.zeros_like(trunk.pos_embed_window))


def run_block(block: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """What a `Sam2MultiScaleBlock` computes, (B, h, w, C) -> (B, h', w', C'), without its unused products."""
    normed = block.layer_norm1(tokens)
    shortcut = tokens if block.dim == block.dim_out else do_pool(block.proj(normed), block.query_stride)
    window = block.window_size
    if not window:
        return add_feed_forward(block, shortcut + _attend(block.attn, normed))
    windows, padded = window_partition(normed, window)
    attended = _attend(block.attn, windows)
    if block.query_stride:
        window //= block.query_stride[0]
        padded = tuple(-(-side // window) * window for side in shortcut.shape[1:3])
    return add_feed_forward(block, shortcut + window_unpartition(attended, window, padded, shortcut.shape[1:3]))


def _attend(attention: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """What a `Sam2MultiScaleAttention` computes, by `scaled_dot_product_attention`."""
    batch, height, width, _ = tokens.shape
    heads = attention.num_attention_heads
    query, key, value = attention.qkv(tokens).view(batch, height * width, 3, heads, -1).unbind(2)
    if attention.query_stride:
        query = do_pool(query.reshape(batch, height, width, -1), attention.query_stride)
        height, width = query.shape[1:3]
        query = query.reshape(batch, height * width, heads, -1)
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    attended = F.scaled_dot_product_attention(query, key, value, scale=attention.scale)
    return attention.proj(attended.transpose(1, 2).reshape(batch, height, width, -1))


def _positions(trunk: nn.Module, size: torch.Size) -> torch.Tensor:
    """(1, h, w, C): Hiera's positions of the whole map, interpolated, and those inside a window, repeated."""
    whole, window = trunk.pos_embed, trunk.pos_embed_window
    if whole.shape[-2:] != size:
        whole = F.interpolate(whole, size=tuple(size), mode="bicubic")
    return (whole + window.tile([a // b for a, b in zip(whole.shape, window.shape, strict=True)])).permute(0, 2, 3, 1)


def build_pyramid(encoder: nn.Module, stages: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Give the pyramid's maps (B, C, h_i, w_i) at strides 4, 8 and 16, of stages at strides 4 to 32.

    As the vision model's neck, without the positional encodings that it adds for video.
    """
    neck, pyramid = encoder.neck, []
    for conv, (level, stage) in zip(neck.convs, reversed(list(enumerate(stages))), strict=True):
        lateral = conv(stage)
        if pyramid and level in neck.fpn_top_down_levels:
            lateral = lateral + F.interpolate(pyramid[-1].float(), scale_factor=2.0, mode="nearest").to(lateral.dtype)
        pyramid.append(lateral)
    return pyramid[::-1][: encoder.num_feature_levels]
