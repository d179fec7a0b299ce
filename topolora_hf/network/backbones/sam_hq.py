"""SAM-HQ (Ke et al. 2023, arXiv 2306.01567): SAM, with a second mask from early features of its encoder."""

from collections.abc import Callable

import torch
from torch import nn
from transformers import SamHQModel

from ..detail_branch import SamFeatures
from . import sam as of_sam


class Backbone(of_sam.Backbone):
    """As SAM's. The first mask is the sum of SAM's and of the high-quality token's, as transformers gives it."""

    model_class = SamHQModel

    def finer_channels(self, sam: nn.Module) -> tuple[int, ...]:
        """Give the channels of the high-quality features, at stride 4."""
        return (sam.mask_decoder.encoder_conv2.out_channels,)

    def encode(self, sam: nn.Module, pixels: torch.Tensor, fast: bool) -> tuple[torch.Tensor, tuple]:
        """(B, 3, S, S) -> image embedding (B, C, h, w), and the tokens after the first layer of global attention."""
        encoder = sam.vision_encoder
        is_global = [layer.window_size == 0 for layer in encoder.layers]
        first = is_global.index(True) + 1 if any(is_global) else 0
        early = self._run(sam, self._embed_patches(sam, pixels), slice(first), fast)
        tokens = self._run(sam, early, slice(first, None), fast)
        return encoder.neck(tokens), (early,) if first else ()

    def decode(
        self, sam: nn.Module, embedding: torch.Tensor, encoded: tuple, class_masks: Callable | None = None
    ) -> SamFeatures:
        """Run the mask decoder without prompts, as `SamHQMaskDecoder.forward`.

        Further classes have a hypernetwork of their own on SAM's token; the mask of the high-quality token is added to
        each.
        """
        decoder, act = sam.mask_decoder, sam.mask_decoder.activation
        features = decoder.encoder_conv2(act(decoder.encoder_norm(decoder.encoder_conv1(embedding))))
        for early in encoded:
            early = decoder.compress_vit_conv1(early.permute(0, 3, 1, 2).contiguous())
            features = features + decoder.compress_vit_conv2(act(decoder.compress_vit_norm(early)))
        tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight, decoder.hq_token.weight], dim=0)
        queries, image = self._attend(sam, tokens, embedding)
        image = act(decoder.upscale_layer_norm(decoder.upscale_conv1(image)))
        image = act(decoder.upscale_conv2(image))
        fine = decoder.mask_conv2(act(decoder.mask_norm(decoder.mask_conv1(image)))) + features
        weights = of_sam.mask_weights(decoder, queries[:, 1], class_masks)
        masks = weights @ image.flatten(2) + decoder.hq_mask_mlp(queries[:, -1])[:, None] @ fine.flatten(2)
        return SamFeatures(masks.unflatten(2, image.shape[-2:]), image, embedding, (features,))
