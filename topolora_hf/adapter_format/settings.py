"""What an adapter needs besides its tensors."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from ..data.intensity import IntensityScaling
from ..files import read_json_object
from ..fundus.colours import DiscColours
from ..metrics.platt_scaling import PlattScaling
from .location import find_file
from .names import public_base_name
from .presets import PRESETS
from .values import check_setting_values

SETTINGS_FILE = "topolora_config.json"
_BEFORE = {"detail_context": False}  # of adapters whose files are older than the setting


@dataclass
class AdapterSettings:
    """What an adapter needs besides its tensors; `topolora_config.json` in its directory."""

    __module__ = "topolora_hf"  # wherever the file lies

    base: str = field(metadata={"help": "public name of the base: a Hub id or topolora_hf/tiny"})
    preset: str = field(default="topolora", metadata={"help": f"one of {', '.join(PRESETS)}"})
    image_size: int = field(default=1024, metadata={"help": "S: pixels a side that SAM's encoder sees"})
    tile_size: int = field(default=1024, metadata={"help": "T: pixels a side of a tile of the image"})
    detail_channels: int = field(default=16, metadata={"help": "channels of the detail branch; 0: none"})
    detail_context: bool = field(
        default=True, metadata={"help": "whether the detail branch has dilated blocks, which see further"}
    )
    spatial_adapter_form: str = field(default="paper", metadata={"help": "paper or seglab"})
    use_sam: bool = field(default=True, metadata={"help": "False: the detail branch alone"})
    view: str = field(
        default="tiles", metadata={"help": "tiles at native resolution, or the whole image resized to one"}
    )
    threshold: float = field(default=0.5, metadata={"help": "probability from which a pixel is foreground"})
    temperature: float = field(
        default=1.0,
        metadata={"help": "T: a probability p is given as sigmoid(logit(p) / T + b); above 1: less certain"},
    )
    logit_bias: float = field(default=0.0, metadata={"help": "b; below 0: foreground is less probable"})
    test_time_flips: bool = field(
        default=False, metadata={"help": "whether a probability is the mean over each tile's four mirrorings"}
    )
    test_time_scales: tuple[float, ...] = field(
        default=(1.0,), metadata={"help": "the image is seen at each of these times its size; the mean is given"}
    )
    image_mean: tuple[float, ...] = field(
        default=(0.485, 0.456, 0.406), metadata={"help": "subtracted from RGB in [0, 1]"}
    )
    image_std: tuple[float, ...] = field(default=(0.229, 0.224, 0.225), metadata={"help": "divides RGB after that"})
    labels: tuple[str, ...] = field(default=("foreground",), metadata={"help": "names of the K logit maps"})
    intensity: IntensityScaling | None = field(
        default=None, metadata={"help": "how images of more than 8 bits became 8 bits; None: there were none"}
    )
    disc_diameter: float | None = field(
        default=None,
        metadata={"help": "of the retinal disc in the training images, in pixels; None: none of one scale"},
    )
    disc_colours: DiscColours | None = field(
        default=None, metadata={"help": "of the retinal discs in the training images; None: no retinas"}
    )
    dataset: str | None = field(default=None, metadata={"help": "what it was trained on"})

    def __post_init__(self):
        check_setting_values({"test_time_scales": self.test_time_scales})
        if self.view == "whole" and self.test_time_scales != (1.0,):
            raise ValueError(
                f"test_time_scales={list(self.test_time_scales)} are for images cut into tiles; here the whole image "
                "is resized to one"
            )

    @property
    def calibration(self) -> PlattScaling:
        """What makes probabilities of the network's."""
        return PlattScaling(self.temperature, self.logit_bias)

    def network_settings(self) -> dict:
        """The keyword arguments of `TopoSamForSegmentation.from_pretrained` that build the base."""
        return {
            "image_size": self.image_size,
            "tile_size": self.tile_size,
            "detail_channels": self.detail_channels,
            "detail_context": self.detail_context,
            "spatial_adapter_form": self.spatial_adapter_form,
            "use_sam": self.use_sam,
            "num_labels": len(self.labels),
        }

    def save(self, directory: str | Path) -> None:
        text = json.dumps(asdict(self), indent=2) + "\n"
        (Path(directory) / SETTINGS_FILE).write_text(text, encoding="utf-8")

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **hub_options) -> "AdapterSettings":
        """Reads `topolora_config.json` from an adapter's directory or Hub repository.

        Raises:
            FileNotFoundError: the directory or repository holds no such file: it is no adapter of this package.
            ValueError: the file has unknown or missing fields, absurd values, or is not JSON.
        """
        file = find_file(name_or_path, SETTINGS_FILE, **hub_options)
        values = read_json_object(file)
        known = {f.name for f in fields(cls)}
        if "base" not in values or not values.keys() <= known:
            raise ValueError(f"{file} must hold an object with `base` and fields among {', '.join(sorted(known))}")
        try:
            return cls.from_dict({**_BEFORE, **values})
        except (TypeError, ValueError) as error:
            raise ValueError(f"{file}: {error}") from error

    @classmethod
    def from_dict(cls, values: Mapping) -> "AdapterSettings":
        """What a JSON object of all fields, or some, means.

        Raises:
            TypeError: for a field that there is not.
            ValueError: for a value that no adapter has (`check_setting_values`).
        """
        check_setting_values(values)
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        if values.get("intensity") is not None:
            values["intensity"] = IntensityScaling(**values["intensity"])
        if values.get("disc_colours") is not None:
            values["disc_colours"] = DiscColours(**values["disc_colours"])
        return cls(**values)

    @classmethod
    def of_network(cls, network, **settings) -> "AdapterSettings":
        """Those of a base in the form that it has; `settings` are what its configuration does not say."""
        form = ("image_size", "tile_size", "detail_channels", "detail_context", "spatial_adapter_form", "use_sam")
        own = {name: getattr(network.config, name) for name in form}
        return cls(base=public_base_name(network.name_or_path), **own, **settings)
