"""Settings of the network: a SAM's own configuration and the form of what this package adds to it."""

from dataclasses import fields

from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, SamConfig

from ..adapter_format.errors import AdapterMismatchError
from ..adapter_format.families import family_of
from ..adapter_format.form import NetworkForm

# In a file these may name code on the Hub, which transformers would download and run; a caller may ask for it.
_KERNELS = ("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation")


@strict
class TopoSamConfig(SamConfig):
    """Configuration of [`TopoSamForSegmentation`]: a `SamConfig` with the fields of `NetworkForm`.

    A stock configuration of any family in `FAMILIES` is read as one of these; the parts of it (`vision_config`,
    `prompt_encoder_config`, `mask_decoder_config`) are of the family's own classes, and the image size in them stays
    the checkpoint's own. Every field may be given as a keyword argument of `TopoSamForSegmentation.from_pretrained`.

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
        kwargs = {**form, "image_size": None, "tile_size": None, **kwargs}
        for name, of_family in CONFIG_MAPPING[kwargs["family"]].sub_configs_defaults.items():
            part, kwargs = of_family.create_subconfig(name, getattr(self, name), **kwargs)
            setattr(self, name, part)
        super().__post_init__(**kwargs)
        if self.image_size is None:
            self.image_size = getattr(self.vision_config, "image_size", self.prompt_encoder_config.image_size)
        if self.tile_size is None:
            self.tile_size = self.image_size

    @property
    def form(self) -> NetworkForm:
        """The form of the network. Raises ValueError when no network has it."""
        return NetworkForm.of(self)

    @classmethod
    def get_config_dict(cls, *args, **kwargs) -> tuple[dict, dict]:
        """As in transformers, but a stock configuration of a family is no foreign one. ValueError: it is of none."""
        config, kwargs = super().get_config_dict(*args, **kwargs)
        model_type = config.get("model_type", cls.model_type)
        if model_type != cls.model_type:
            config = config.get("tracker_config", config)  # of SAM 3's model for video
            config = {**config, "model_type": cls.model_type, "family": family_of(model_type)}
        return config, kwargs

    @classmethod
    def from_dict(cls, config_dict: dict, **kwargs):
        """As in transformers, but the two sizes are known before `tile_size` takes `image_size` as its default.

        Raises:
            AdapterMismatchError: a `family` is asked for (by an adapter), and this configuration is of another.
        """
        check_family(config_dict.get("family", "sam"), kwargs.pop("family", None))
        sizes = {key: kwargs.pop(key) for key in ("image_size", "tile_size") if key in kwargs}
        return super().from_dict({**_without_kernels(config_dict), **sizes}, **kwargs)

    def to_diff_dict(self) -> dict:
        """As in transformers, but always with the labels (its own default is two, ours is one) and a family's parts."""
        labels = {"id2label": self.id2label, "label2id": self.label2id}
        names = self.sub_configs if self.family != "sam" else ()
        return {**super().to_diff_dict(), **labels, **{name: getattr(self, name).to_diff_dict() for name in names}}


def check_family(present: str, asked: str | None) -> None:
    """Check that a base is of the family that is asked for; None asks for none. AdapterMismatchError names both."""
    if asked not in (None, present):
        raise AdapterMismatchError(f"family={asked} is needed, as the adapter was trained with; this base is {present}")


def _without_kernels(config: dict) -> dict:
    return {
        key: _without_kernels(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if key not in _KERNELS
    }
