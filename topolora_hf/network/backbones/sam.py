"""SAM (Kirillov et al. 2023, arXiv 2304.02643); and what a backbone is."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, SamModel

from ..detail_branch import SamFeatures
from ..encoder import run_layers


class Backbone:
    """SAM: image encoder and mask decoder at any size, without prompts, on the modules of transformers' model.

    It has no state. `sam` is that model, which may carry LoRA and PEFT's copies of parts; `fast` asks for this
    package's encoder layers instead of transformers', with the same values.
    """

    model_class: type[PreTrainedModel] = SamModel

    def build(self, config: PreTrainedConfig) -> PreTrainedModel:
        """Build transformers' model, with random weights, from a `TopoSamConfig` or one of the model's own class."""
        if not isinstance(config, self.model_class.config_class):
            parts = {name: getattr(config, name) for name in config.sub_configs}
            config = self.model_class.config_class(**parts, attn_implementation=config._attn_implementation)
        return self.model_class(config)

    def finer_channels(self, sam: nn.Module) -> tuple[int, ...]:
        """Give the channels of each map of `SamFeatures.finer`."""
        return ()

    def encode(self, sam: nn.Module, pixels: torch.Tensor, fast: bool) -> tuple[torch.Tensor, tuple]:
        """(B, 3, S, S) -> image embedding (B, C, h, w), and what else `decode` needs of the encoder."""
        return sam.vision_encoder.neck(self._run(sam, self._embed_patches(sam, pixels), slice(None), fast)), ()

    def decode(
        self, sam: nn.Module, embedding: torch.Tensor, encoded: tuple, class_masks: Callable | None = None
    ) -> SamFeatures:
        """Run the mask decoder without prompts.

        Follows `SamMaskDecoder.forward`, which does not return the upscaled embedding; the IoU head is left out. All
        four masks are computed, at no cost that shows, and the embedding is laid out in memory as SAM does it, so that
        the first mask has the same bits as SAM's.

        Args:
            embedding, encoded: what `encode` gave; the embedding refined by the spatial adapter.
            class_masks: from the first mask's query to the weights of the further classes' masks; None: there is one.
        """
        decoder = sam.mask_decoder
        tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight], dim=0)
        queries, image = self._attend(sam, tokens, embedding)
        image = decoder.activation(decoder.upscale_layer_norm(decoder.upscale_conv1(image)))
        image = decoder.activation(decoder.upscale_conv2(image))
        queries = queries[:, 1:]
        hyper = [mlp(queries[:, i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)]
        masks = (torch.stack(hyper, dim=1) @ image.flatten(2))[:, :1]
        if class_masks is not None:
            masks = torch.cat([masks, class_masks(queries[:, 0]) @ image.flatten(2)], dim=1)
        return SamFeatures(masks.unflatten(2, image.shape[-2:]), image, embedding)

    @torch.no_grad()
    def fix_size(self, sam: nn.Module, size: int) -> None:
        """Bring the positions to images of `size` pixels a side, once and for all: for an export."""
        encoder = sam.vision_encoder
        grid = (size // encoder.config.patch_size,) * 2
        if encoder.pos_embed is not None:
            encoder.pos_embed = nn.Parameter(_resized_positions(encoder.pos_embed, torch.Size(grid)))
        for layer in encoder.layers:
            for name in ("rel_pos_h", "rel_pos_w") if layer.attn.use_rel_pos else ():
                table, length = getattr(layer.attn, name), 2 * (layer.window_size or grid[0]) - 1
                if len(table) != length:
                    setattr(layer.attn, name, nn.Parameter(F.interpolate(table.T[None], length, mode="linear")[0].T))

    def _embed_patches(self, sam: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) -> (B, h, w, hidden), at any S: SAM's own `forward` accepts its own image size only."""
        encoder = sam.vision_encoder
        tokens = encoder.patch_embed.projection(pixels).permute(0, 2, 3, 1)
        if encoder.pos_embed is None:
            return tokens
        return tokens + _resized_positions(encoder.pos_embed, tokens.shape[1:3])

    def _run(self, sam: nn.Module, tokens: torch.Tensor, layers: slice, fast: bool) -> torch.Tensor:
        vision = sam.vision_encoder.config
        return run_layers(
            sam.vision_encoder, tokens, layers, fast and vision.use_rel_pos and not vision.attention_dropout
        )

    def _attend(
        self, sam: nn.Module, tokens: torch.Tensor, embedding: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the decoder's transformer: tokens (N, C) -> queries (B, N, C), and the image embedding that they read."""
        batch, _, height, width = embedding.shape
        no_mask = sam.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        queries, keys = sam.mask_decoder.transformer(
            point_embeddings=tokens.repeat(batch, 1, 1, 1),
            image_embeddings=(embedding + no_mask).contiguous(),
            image_positional_embeddings=_grid_embedding(sam, height, width).repeat(batch, 1, 1, 1),
            attention_similarity=None,
        )
        return queries[:, 0], keys.transpose(2, 3).reshape(embedding.shape)


def _resized_positions(trained: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """`pos_embed` (1, h, w, hidden), interpolated to another size. (At ViT-B 1 % of a forward.)"""
    if trained.shape[1:3] == size:
        return trained
    maps = F.interpolate(trained.permute(0, 3, 1, 2), tuple(size), mode="bicubic", align_corners=False)
    return maps.permute(0, 2, 3, 1)


def _grid_embedding(sam: nn.Module, height: int, width: int) -> torch.Tensor:
    """(1, C, h, w): SAM's positional encoding of the centres of an h x w grid, at any size."""
    encoding = sam.shared_image_embedding
    ones = encoding.positional_embedding.new_ones(height, width)
    y = (ones.cumsum(dim=0) - 0.5) / height
    x = (ones.cumsum(dim=1) - 0.5) / width
    return encoding(torch.stack([x, y], dim=-1)).permute(2, 0, 1).unsqueeze(0)


def mask_weights(decoder: nn.Module, query: torch.Tensor, class_masks: Callable | None) -> torch.Tensor:
    """(B, K, C / 8), the weights of the first mask, by its query (B, C), and of those of the further classes."""
    weights = decoder.output_hypernetworks_mlps[0](query)[:, None]
    return weights if class_masks is None else torch.cat([weights, class_masks(query)], dim=1)
