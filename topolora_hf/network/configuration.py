"""Settings of the network: SAM's own configuration and the form of what this package adds to it."""

from dataclasses import fields

from huggingface_hub.dataclasses import strict
from transformers import SamConfig

from ..adapter_format.form import NetworkForm

# In a file these may name code on the Hub, which transformers would download and run; a caller may ask for it.
_KERNELS = ("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation")


@strict
class TopoSamConfig(SamConfig):
    """Configuration of [`TopoSamForSegmentation`]: a `SamConfig` with the fields of `NetworkForm`.

    A stock SAM's configuration is read as one of these. `vision_config.image_size` stays the checkpoint's own. Every
    field may be given as a keyword argument of `TopoSamForSegmentation.from_pretrained`.

    Args:
        **kwargs: those of `SamConfig` and of `NetworkForm`. `image_size` is by default the checkpoint's own (1024 for
            stock SAM), `tile_size` is by default `image_size`.
        fast_encoder: True runs SAM's encoder by this package's attention and feed-forward, which give the same values
            up to rounding in a fraction of the memory. False runs transformers' own, for which `attn_implementation`
            chooses the attention; giving that to `from_pretrained` means False.
    """

    __module__ = "topolora_hf"  # wherever the file lies

    model_type = "topolora_sam"
    fast_encoder: bool = True

    def __post_init__(self, **kwargs):
        if self.id2label is None:
            kwargs.setdefault("num_labels", 1)
        form = {item.name: item.default for item in fields(NetworkForm) if item.name != "num_labels"}
        super().__post_init__(**{**form, "image_size": None, "tile_size": None, **kwargs})
        if self.image_size is None:
            self.image_size = self.vision_config.image_size
        if self.tile_size is None:
            self.tile_size = self.image_size

    @property
    def form(self) -> NetworkForm:
        """The form of the network. Raises ValueError when no network has it."""
        return NetworkForm.of(self)

    @classmethod
    def get_config_dict(cls, *args, **kwargs) -> tuple[dict, dict]:
        """As in transformers, but a stock SAM's is no foreign one."""
        config, kwargs = super().get_config_dict(*args, **kwargs)
        return {**config, "model_type": cls.model_type} if config.get("model_type") == "sam" else config, kwargs

    @classmethod
    def from_dict(cls, config_dict: dict, **kwargs):
        """As in transformers, but the two sizes are known before `tile_size` takes `image_size` as its default."""
        sizes = {key: kwargs.pop(key) for key in ("image_size", "tile_size") if key in kwargs}
        return super().from_dict({**_without_kernels(config_dict), **sizes}, **kwargs)

    def to_diff_dict(self) -> dict:
        """As in transformers, but always with the labels: its own default is two, ours is one."""
        labels = {"id2label": self.id2label, "label2id": self.label2id}
        return {**super().to_diff_dict(), **labels}


def _without_kernels(config: dict) -> dict:
    return {
        key: _without_kernels(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if key not in _KERNELS
    }
