"""The form of a network: what its SAM leaves open."""

from dataclasses import asdict, dataclass, fields

from .errors import AdapterMismatchError
from .families import FAMILIES
from .values import SWITCH, check_values, one_of, setting, whole

# What an adapter brings to any base, in its tensors: the entries of `tile_scaling.settings`. With `detail_channels` or
# `use_sam` 0 that part of the base does not run. The last is there with several classes alone.
TRAVELLING = ("image_size", "tile_size", "detail_channels", "use_sam", "num_labels")


@dataclass(frozen=True, kw_only=True)
class NetworkForm:
    """The form of a network, and the one list of what belongs to it.

    Each field is a keyword argument of `TopoSamForSegmentation.from_pretrained`, a field of `TopoSamConfig`, and, but
    for `num_labels`, a field of `AdapterSettings` and of `topolora_config.json`.

    Raises:
        ValueError: no network has this form; the message names the value and what is allowed.
    """

    image_size: int = setting(1024, "S: side in pixels that SAM's encoder sees", whole(16, 8192, multiple_of=16))
    tile_size: int = setting(1024, "T: side of a tile in the image's own pixels", whole(16, 16384, multiple_of=4))
    detail_channels: int = setting(16, "channels of the detail branch; 0: no detail branch", whole(0, 512))
    detail_context: bool = setting(True, "dilated blocks, with which the detail branch sees further", SWITCH)
    spatial_adapter_form: str = setting("paper", "paper or seglab (the authors' code)", one_of("paper", "seglab"))
    use_sam: bool = setting(True, "false: the detail branch alone, without SAM", SWITCH)
    num_labels: int = setting(1, "K: the number of classes, of which each has a logit map", whole(1, 1000))
    family: str = setting("sam", "the SAM that it is built around, which the base decides", one_of(*FAMILIES))

    def __post_init__(self):
        check_values(NetworkForm, vars(self))
        multiple = FAMILIES[self.family].size_multiple
        if self.image_size % multiple:
            raise ValueError(f"image_size must be a multiple of {multiple} ({self.family}), got {self.image_size}")
        if not self.detail_channels and not self.use_sam:
            raise ValueError("detail_channels=0 leaves out the detail branch and use_sam=False SAM: nothing is left")

    @classmethod
    def of(cls, holder) -> "NetworkForm":
        """Read the form from an object that has these attributes, such as a `TopoSamConfig`."""
        return cls(**{item.name: getattr(holder, item.name) for item in fields(cls)})

    @property
    def of_base(self) -> dict:
        """The keyword arguments that build a base for an adapter of this form.

        Whether SAM and the detail branch run, and the number of classes, travel in the adapter, so that adapters of all
        presets and classes share a base.
        """
        without = {"use_sam", "num_labels"} | (set() if self.detail_channels else {"detail_channels", "detail_context"})
        return {name: value for name, value in asdict(self).items() if name not in without}

    def check_adapter(self, of_adapter: "NetworkForm") -> None:
        """Check that an adapter of that form fits a base of this one. AdapterMismatchError names what does not."""
        names = of_adapter.of_base.keys() - {"image_size", "tile_size"}
        differing = [name for name in vars(self) if name in names and getattr(self, name) != getattr(of_adapter, name)]
        if differing:
            trained, present = (
                ", ".join(f"{name}={getattr(form, name)}" for name in differing) for form in (of_adapter, self)
            )
            raise AdapterMismatchError(
                f"the adapter was trained with {trained}, this base has {present}: load the base with {trained}, or "
                "use topolora_hf.load_adapter, which does"
            )

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in vars(self).items())
