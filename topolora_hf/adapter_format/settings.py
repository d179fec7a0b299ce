"""What an adapter needs besides its tensors."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, make_dataclass, replace
from pathlib import Path

from ..data.intensity import IntensityScaling
from ..data.protocols import VIEWS
from ..files import read_json_object
from ..fundus.colours import FovColours
from ..metrics.platt_scaling import Calibration, PlattScaling
from .errors import AdapterMismatchError
from .families import FAMILIES
from .form import NetworkForm
from .location import find_file
from .names import ADAPTER_CONFIG, SETTINGS_FILE, public_base_name
from .presets import PRESETS
from .values import (
    OBJECT,
    PUBLIC_NAME,
    SWITCH,
    TEXT,
    Allowed,
    check_values,
    for_each_class,
    number,
    one_of,
    or_null,
    positive,
    setting,
    several,
)

_PER_CLASS = ("threshold", "temperature", "logit_bias")

_NAMES = several(TEXT._replace(check=lambda value: TEXT.check(value) and value.strip() != ""), 1, 1000, "names")
_FormFields = make_dataclass(
    "_FormFields",
    [
        (item.name, item.type, field(default=item.default, metadata=item.metadata))
        for item in fields(NetworkForm)
        if item.name != "num_labels"  # as many as there are labels
    ],
    kw_only=True,
)


@dataclass
class AdapterSettings(_FormFields):
    """What an adapter needs besides its tensors: the fields of `NetworkForm`, and these.

    They are `topolora_config.json` in the adapter's directory.
    """

    __module__ = "topolora_hf"  # wherever the file lies

    base: str = field(
        metadata={"help": "public name of the base: a Hub id, or such as topolora_hf/tiny", "allowed": PUBLIC_NAME}
    )
    preset: str = setting("topolora", f"one of {', '.join(PRESETS)}", TEXT)
    view: str = setting(
        "tiles", "tiles at the image's own resolution, or the full image resized to one tile", one_of(*VIEWS)
    )
    threshold: float | tuple[float, ...] = setting(
        0.5, "a pixel is foreground from this probability on", for_each_class(number(0, 1))
    )
    temperature: float | tuple[float, ...] = setting(
        1.0, "T: probability p becomes sigmoid(logit(p) / T + b)", for_each_class(positive())
    )
    logit_bias: float | tuple[float, ...] = setting(
        0.0, "b; below 0, foreground is less probable", for_each_class(number())
    )
    test_time_flips: bool = setting(False, "average the probability over each tile's four mirrorings", SWITCH)
    test_time_scales: tuple[float, ...] = setting(
        (1.0,),
        "average the probability over the image at each of these times its size",
        several(number(0.1, 10), 1, 16, "one to 16 numbers from 0.1 to 10"),
    )
    image_mean: tuple[float, ...] = setting(
        (0.485, 0.456, 0.406), "subtracted from RGB in [0, 1]", several(number(), 3, 3, "three numbers")
    )
    image_std: tuple[float, ...] = setting(
        (0.229, 0.224, 0.225), "divides RGB after that", several(positive(), 3, 3, "three positive numbers")
    )
    labels: tuple[str, ...] = setting(
        ("foreground",),
        "names of the K classes, of which each has a logit map",
        Allowed(lambda value: _NAMES.check(value) and len(set(value)) == len(value), "one to 1000 different names"),
    )
    exclusive: bool = setting(
        False, "a pixel is of one class at most: a softmax over background and classes, not a sigmoid for each", SWITCH
    )
    intensity: IntensityScaling | None = setting(
        None, "how images of more than 8 bits became 8 bits; null: there were none", or_null(OBJECT)
    )
    bands: tuple[int, ...] | None = setting(
        None,
        "numbers of the bands that are taken of each image, from 1; null: images are grey or RGB",
        or_null(several(number(1, 1000), 1, 3, "one or three band numbers")),
    )
    fov_diameter: float | None = setting(
        None,
        "diameter in pixels of the training images' field of view; null: they have none, or several scales",
        or_null(positive(20_000)),
    )
    fov_colours: FovColours | None = setting(
        None, "colours of the training images' field of view; null: they are no fundus photographs", or_null(OBJECT)
    )
    foreground_range: tuple[float, float] | None = setting(
        None,
        "least and largest share of foreground in a training image's field of view; null: not known",
        or_null(several(number(0, 1), 2, 2, "two shares")),
    )
    dataset: str | None = setting(None, "what it was trained on", or_null(TEXT))

    def __post_init__(self):
        check_values(
            AdapterSettings,
            {name: getattr(self, name) for name in ("test_time_scales", "labels", "exclusive", *_PER_CLASS)},
        )
        for name in _PER_CLASS:
            self._of_each_class(name)
        if self.exclusive and self.num_labels == 1:
            raise ValueError(f"exclusive is for several classes; labels are {', '.join(self.labels)}")
        if self.view == "full" and self.test_time_scales != (1.0,):
            raise ValueError(
                f"test_time_scales={list(self.test_time_scales)} are for images cut into tiles; here the full image "
                "is resized to one tile"
            )
        _ = self.form  # which checks it

    @property
    def num_labels(self) -> int:
        """K, the number of logit maps."""
        return len(self.labels)

    @property
    def form(self) -> NetworkForm:
        """The form of the network that the adapter fits."""
        return NetworkForm.of(self)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The threshold of each class."""
        return self._of_each_class("threshold")

    @property
    def calibration(self) -> Calibration:
        """The mapping from the network's probabilities (K, ...) to calibrated ones."""
        numbers = zip(self._of_each_class("temperature"), self._of_each_class("logit_bias"), strict=True)
        return Calibration(tuple(PlattScaling(*each) for each in numbers), self.exclusive)

    def _of_each_class(self, name: str) -> tuple[float, ...]:
        value = getattr(self, name)
        if not isinstance(value, list | tuple):
            return (value,) * self.num_labels
        if len(value) != self.num_labels:
            raise ValueError(
                f"{name} must be one number, or one for each of {self.num_labels} classes "
                f"({', '.join(self.labels[:5])}); got {len(value)}: {list(value[:5])}"
            )
        return tuple(value)

    def in_form(self, num_labels: int, **form) -> "AdapterSettings":
        """Make the same settings for a network that runs in another form; its classes must be these."""
        self.check_classes(num_labels)
        return replace(self, **form)

    def with_classes(self, num_labels: int) -> "AdapterSettings":
        """Make the same settings for other classes, of which no more is known than their number."""
        of_old = {name: getattr(AdapterSettings, name) for name in _PER_CLASS if isinstance(getattr(self, name), tuple)}
        return replace(self, labels=_default_labels(num_labels), exclusive=False, **of_old)

    def check_classes(self, num_labels: int) -> None:
        """Check that each logit map of a network has a name. AdapterMismatchError says what there is."""
        if num_labels != self.num_labels:
            raise AdapterMismatchError(
                f"the network has num_labels={num_labels} maps, the settings name {self.num_labels} classes: "
                f"{', '.join(self.labels[:5])}"
            )

    def save(self, directory: str | Path) -> None:
        """Write `topolora_config.json`, and the copy of it in the `adapter_config.json` that lies there."""
        values = {"base": self.base, "preset": self.preset, **asdict(self)}
        _write_json(Path(directory) / SETTINGS_FILE, values)
        of_peft = Path(directory) / ADAPTER_CONFIG
        if of_peft.is_file():
            config = read_json_object(of_peft)
            _write_json(of_peft, {**config, "auto_mapping": {**(config.get("auto_mapping") or {}), "settings": values}})

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **hub_options) -> "AdapterSettings":
        """Read `topolora_config.json` from an adapter's directory or Hub repository.

        FileNotFoundError: it is no adapter of this package. ValueError: unknown or missing fields, or absurd values.
        """
        file = find_file(name_or_path, SETTINGS_FILE, **hub_options)
        values = read_json_object(file)
        known = {f.name for f in fields(cls)}
        if "base" not in values or not values.keys() <= known:
            raise ValueError(f"{file} must hold an object with `base` and fields among {', '.join(sorted(known))}")
        try:
            return cls.from_dict(values)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{file}: {error}") from error

    @classmethod
    def from_dict(cls, values: Mapping) -> "AdapterSettings":
        """Make settings of a JSON object. TypeError: an unknown field. ValueError: a value that no adapter has."""
        check_values(cls, values)
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        for name, kind in (("intensity", IntensityScaling), ("fov_colours", FovColours)):
            if values.get(name) is not None:
                values[name] = kind(**values[name])
        return cls(**values)

    @classmethod
    def of_network(cls, network, **settings) -> "AdapterSettings":
        """Make settings in the form that a network runs in now; the other fields are given, or have their defaults."""
        form = {item.name: getattr(network.config, item.name) for item in fields(_FormFields)}
        settings.setdefault("labels", _default_labels(network.config.num_labels))
        mean, std = FAMILIES[network.config.family].normalisation
        settings = {"image_mean": mean, "image_std": std, **settings}
        return cls(base=public_base_name(network.name_or_path), **form, **settings)


def _default_labels(num_labels: int) -> tuple[str, ...]:
    """Name classes of which no more is known than how many they are."""
    return ("foreground",) if num_labels == 1 else tuple(f"class{number + 1}" for number in range(num_labels))


def _write_json(file: Path, values: dict) -> None:
    file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
