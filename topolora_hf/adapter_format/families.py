"""The families of Segment Anything: their names, and the names of their parts."""

from dataclasses import dataclass

_DECODER = (
    "mask_decoder.transformer",
    "mask_decoder.upscale_conv1",
    "mask_decoder.upscale_conv2",
    "mask_decoder.upscale_layer_norm",
    "mask_decoder.output_hypernetworks_mlps.0",
    "mask_decoder.mask_tokens",
    "mask_decoder.iou_token",
)
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Family:
    """What is a family's own. Names are those of transformers' modules.

    Attributes:
        model_types: what `config.json` of its checkpoints says. Those of a video model hold the image model whole.
        layers: pattern of the encoder's layers.
        ffn, attention: patterns of a layer's linear layers, for LoRA.
        decoder: the parts of the mask decoder that reach the first mask. Others (IoU head, object score, further masks)
            are frozen and never saved.
        prompts: what stands in the place of prompts: parts of the model that the first mask depends on.
        unused: parts of the encoder that no mask depends on.
        size_multiple: the encoder takes images whose side is a multiple of it.
        normalisation: mean and standard deviation of the pixels that it was trained on.
    """

    model_types: tuple[str, ...]
    layers: str
    ffn: str
    attention: str
    decoder: tuple[str, ...] = _DECODER
    prompts: tuple[str, ...] = ("prompt_encoder.no_mask_embed",)
    unused: tuple[str, ...] = ()
    size_multiple: int = 16
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] = _IMAGENET

    def lora_targets(self, parts: str = "ffn") -> str:
        """Give PEFT's pattern of the encoder's linear layers: `parts` is `ffn`, `attention` or `all`."""
        within = {"ffn": self.ffn, "attention": self.attention, "all": f"(?:{self.ffn}|{self.attention})"}[parts]
        return rf"sam\.{self.layers}\.{within}"


_OF_SAM = {"layers": r"vision_encoder\.layers\.\d+", "ffn": r"mlp\.lin[12]", "attention": r"attn\.(?:qkv|proj)"}
_OF_SAM2 = {
    "decoder": (*_DECODER, "mask_decoder.obj_score_token", "mask_decoder.conv_s0", "mask_decoder.conv_s1"),
    "prompts": ("prompt_encoder.no_mask_embed", "prompt_encoder.not_a_point_embed", "no_memory_embedding"),
}
_HQ_PARTS = "hq_token hq_mask_mlp compress_vit_conv1 compress_vit_norm compress_vit_conv2 encoder_conv1 encoder_norm"
_HQ_PARTS += " encoder_conv2 mask_conv1 mask_norm mask_conv2"

FAMILIES = {
    "sam": Family(("sam",), **_OF_SAM),
    "sam_hq": Family(
        ("sam_hq",), **_OF_SAM, decoder=(*_DECODER, *(f"mask_decoder.{name}" for name in _HQ_PARTS.split()))
    ),
    "sam2": Family(
        ("sam2", "sam2_video"),
        layers=r"vision_encoder\.backbone\.blocks\.\d+",
        ffn=r"mlp\.proj_(?:in|out)",
        attention=r"attn\.(?:qkv|proj)",
        size_multiple=32,
        **_OF_SAM2,
    ),
    "edgetam": Family(
        ("edgetam", "edgetam_video"),
        layers=r"vision_encoder\.backbone\.timm_model\.stages_\d+\.blocks\.\d+",
        ffn=r"channel_mixer\.conv[12]\.c",
        attention=r"token_mixer\.conv\.c",
        size_multiple=32,
        **_OF_SAM2,
    ),
    "sam3_tracker": Family(
        ("sam3_tracker", "sam3_tracker_video", "sam3_video"),
        layers=r"vision_encoder\.backbone\.layers\.\d+",
        ffn=r"mlp\.fc[12]",
        attention=r"attention\.[qkvo]_proj",
        unused=("vision_encoder.neck.fpn_layers.3",),
        prompts=_OF_SAM2["prompts"][:2],
        size_multiple=112,
        normalisation=((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        decoder=_OF_SAM2["decoder"],
    ),
}


def family_of(model_type: str) -> str:
    """Give the family of a checkpoint whose `config.json` says `model_type`. ValueError lists those that are known."""
    for name, family in FAMILIES.items():
        if model_type in family.model_types:
            return name
    supported = ", ".join(model_type for family in FAMILIES.values() for model_type in family.model_types)
    text = f"model_type {model_type!r} is not supported yet; supported: {supported}"
    if model_type == "sam3":
        text += ". A Sam3Model finds what a text names, and has no mask without one: save its Sam3TrackerModel"
    raise ValueError(text)
