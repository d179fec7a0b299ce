"""Settings of the network: SAM's own configuration and what this package adds to it."""

from huggingface_hub.dataclasses import strict
from transformers import SamConfig

SPATIAL_ADAPTER_FORMS = ("paper", "seglab")

# In a file these may name code on the Hub, which transformers would download and run; a caller may ask for it.
_KERNELS = ("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation")


@strict
class TopoSamConfig(SamConfig):
    """Configuration of [`TopoSamForSegmentation`]: a `SamConfig` with seven more fields.

    `model_type` stays `"sam"`, so that stock SAM checkpoints load without a warning. `vision_config.image_size` stays
    the checkpoint's own. Every field may be given as a keyword argument of `TopoSamForSegmentation.from_pretrained`.

    Args:
        image_size: S, the side in pixels that SAM's encoder sees; a multiple of the patch size (16).
            None means the checkpoint's own (1024 for stock SAM).
        tile_size: T, the side of a tile in the image's own pixels, which the network is trained on and predicts.
            None means `image_size`.
        detail_channels: Channels of the `DetailBranch` at full resolution; 0 leaves it out (the paper's network).
        detail_context: True lets the `DetailBranch` see further, by five dilated blocks at an eighth of the resolution,
            which start as the identity.
        spatial_adapter_form: `"paper"` (depthwise, ReLU, pointwise) or `"seglab"` (the authors' code: two pointwise
            convolutions with BatchNorm).
        use_sam: False runs the detail branch alone, with SAM's logits and embedding zero: the comparison that shows
            what SAM adds.
        fast_encoder: True runs SAM's encoder by this package's attention and feed-forward, which give the same values
            up to rounding in a fraction of the memory. False runs transformers' own, for which `attn_implementation`
            chooses the attention; giving that to `from_pretrained` means False.
    """

    __module__ = "topolora_hf"  # wherever the file lies

    image_size: int | None = None
    tile_size: int | None = None
    detail_channels: int = 16
    detail_context: bool = True
    spatial_adapter_form: str = "paper"
    use_sam: bool = True
    fast_encoder: bool = True

    def __post_init__(self, **kwargs):
        if self.id2label is None:
            kwargs.setdefault("num_labels", 1)
        super().__post_init__(**kwargs)
        if self.image_size is None:
            self.image_size = self.vision_config.image_size
        if self.tile_size is None:
            self.tile_size = self.image_size

    @classmethod
    def from_dict(cls, config_dict: dict, **kwargs):
        """As in transformers, but the two sizes are known before `tile_size` takes `image_size` as its default."""
        sizes = {key: kwargs.pop(key) for key in ("image_size", "tile_size") if key in kwargs}
        return super().from_dict({**_without_kernels(config_dict), **sizes}, **kwargs)

    def to_diff_dict(self) -> dict:
        """As in transformers, but always with the labels: its own default is two, ours is one."""
        labels = {"id2label": self.id2label, "label2id": self.label2id}
        return {**super().to_diff_dict(), **labels}

    def check(self) -> None:
        """Raises ValueError, naming the value, when the fields do not describe a network that can be built."""
        patch_size = self.vision_config.patch_size
        if self.image_size < patch_size or self.image_size % patch_size:
            raise ValueError(f"image_size must be a positive multiple of {patch_size}, got {self.image_size}")
        if self.tile_size < 16 or self.tile_size % 4:
            raise ValueError(f"tile_size must be a multiple of 4 and at least 16, got {self.tile_size}")
        if self.detail_channels < 0:
            raise ValueError(f"detail_channels must be 0 (no detail branch) or positive, got {self.detail_channels}")
        if self.spatial_adapter_form not in SPATIAL_ADAPTER_FORMS:
            allowed = ", ".join(SPATIAL_ADAPTER_FORMS)
            raise ValueError(f"spatial_adapter_form must be one of {allowed}; got {self.spatial_adapter_form!r}")
        if not self.detail_channels and (self.num_labels > 1 or not self.use_sam):
            raise ValueError(
                f"detail_channels=0 leaves SAM's single mask, but num_labels={self.num_labels}, use_sam={self.use_sam}"
            )


def _without_kernels(config: dict) -> dict:
    return {
        key: _without_kernels(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if key not in _KERNELS
    }
