"""What a command can be told of a data set: the same flags for training, scoring and describing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from ..settings import check_limits, option
from .classes import read_classes
from .errors import DataError
from .intensity import PERCENTILES, TRANSFORMS, IntensityScaling
from .mapping_file import read_mapping
from .mask_rule import MaskRule
from .protocols import PROTOCOLS
from .records import FIELDS_OF_VIEW, Layout

if TYPE_CHECKING:
    from .loading import SegmentationData

_LAYOUT_KEYS = tuple(item.name for item in fields(Layout))
_INTENSITY_KEYS = ("transform", "low", "high")


@dataclass(kw_only=True)
class DataArguments:
    """Which data set, and how it is read. Only `dataset` is required."""

    dataset: str = option(
        help="drive, drive_av, stare, chase_db1, hrf, hrf_av, kvasir, sl_ssdd, synthetic or synthetic_av; a folder, "
        "archive or table of images and masks; or a data set on the Hub (org/name)",
        group="data",
    )
    data_dir: str | None = option(
        None, "folder or archive of a named data set; by default it comes from the Hub", group="data"
    )
    layout: list[str] = option(
        [],
        f"where images and masks lie, as key=value, or one YAML or JSON file of them: {', '.join(_LAYOUT_KEYS)}. "
        'Example: image_dir=photos mask_dir=gt "mask_pattern={stem}_gt.png"',
        group="data",
    )
    protocol: str = option(
        "native",
        "how images are cut and scored. " + "; ".join(f"{name}: {each.help}" for name, each in PROTOCOLS.items()),
        group="data",
        choices=tuple(PROTOCOLS),
    )
    split: str = option(
        "default", "which of the data set's lists divide it; idiap: those of the published baselines", group="data"
    )
    annotator: int = option(1, "whose masks, if two people drew some: 1 or 2", group="data", choices=(1, 2))
    fov: str | None = option(
        None,
        f"field of view ({', '.join(FIELDS_OF_VIEW)}). auto: from a file, else found in the image; given: files alone; "
        "none: score everything. By default the data set's",
        group="data",
        choices=FIELDS_OF_VIEW,
    )
    mask_values: list[str] = option(
        [],
        'what in a mask is structure; the rest is background: numbers, ranges (128-255), colours ("#ff0000") or all '
        "(but 0 and black). By default what is bright, if masks have two levels",
        group="data",
    )
    classes: list[str] = option(
        [],
        "the classes, if there are several: artery=1,3 vein=2,3 (numbers, ranges, colours), or vein=FOLDER/, "
        '"vein={stem}_v.png", a column or labels; names alone if each has files of its own; or one YAML or JSON file',
        group="data",
    )
    ignore: list[str] = option(
        [], "values of a mask that are neither: not trained on, not scored. Example: 255", group="data"
    )
    invert_masks: bool = option(False, "take what is dark in a mask as structure", group="data")
    missing_mask: str = option(
        "error",
        "an image without a mask is an error, or shows nothing to find (empty)",
        group="data",
        choices=("error", "empty"),
    )
    intensity: list[str] = option(
        [],
        "how images of more than 8 bits become 8 bits, as key=value: "
        f"transform ({', '.join(TRANSFORMS)}; sqrt or log suit radar amplitude), low and high (percentiles that become "
        f"black and white, by default {PERCENTILES[0]} and {PERCENTILES[1]}). Images of 8 bits then too",
        group="data",
    )
    bands: list[int] = option(
        [], "the three bands to take as red, green and blue, or one for grey, of images with more: 4 3 2", group="data"
    )
    validation_fraction: float = option(
        0.1, "share of the training images, if there is no validation split", group="data", at_least=0, below=1
    )
    seed: int = option(0, "choose the validation images", group="data", at_least=0)
    skip_bad: bool = option(
        False, "leave out unusable images and rows with missing files, and say which, instead of stopping", group="data"
    )

    def __post_init__(self):
        check_limits(self)
        self.read_layout()
        self.read_intensity()
        self.read_mask_rule()
        read_classes(self.classes)

    def read_mask_rule(self) -> MaskRule:
        """Make a `MaskRule` of `mask_values`, `ignore` and `invert_masks`."""
        return MaskRule(tuple(self.mask_values), tuple(self.ignore), self.invert_masks)

    def read_layout(self) -> Layout:
        """Make a `Layout` of `layout`; DataError if that is impossible."""
        if len(self.layout) == 1 and "=" not in self.layout[0]:
            return Layout(**_checked("layout", read_mapping(Path(self.layout[0]), "layout"), _LAYOUT_KEYS))
        return Layout(**_key_values("layout", self.layout, _LAYOUT_KEYS))

    def read_intensity(self) -> tuple[str, tuple[float, float] | None]:
        """The transform and the two percentiles that `intensity` says; None for the usual ones."""
        given = _key_values("intensity", self.intensity, _INTENSITY_KEYS)
        transform = given.get("transform", "linear")
        if transform not in TRANSFORMS:
            raise DataError(f"intensity: transform must be {' or '.join(TRANSFORMS)}, got {transform!r}")
        try:
            low, high = (float(given.get(key, usual)) for key, usual in zip(("low", "high"), PERCENTILES, strict=True))
        except ValueError as error:
            raise DataError(f"intensity: low and high must be numbers ({error})") from error
        if not 0 <= low < high <= 100:
            raise DataError(f"intensity: percentiles must be 0 <= low < high <= 100, got {low} and {high}")
        return transform, (low, high) if given.keys() & {"low", "high"} else None

    def load(self, intensity: IntensityScaling | None = None, bands: Sequence[int] | None = None) -> "SegmentationData":
        """Load the data set that these settings name, with an adapter's own `intensity` and `bands` if it has some."""
        from .loading import load_segmentation_data

        if bands and self.bands and list(bands) != self.bands:
            own, other = (" ".join(map(str, numbers)) for numbers in (bands, self.bands))
            raise DataError(f"the adapter was trained on bands {own}; --bands {other} differs")
        transform, percentiles = self.read_intensity()
        as_they_are = ("split", "annotator", "fov", "missing_mask", "validation_fraction", "seed", "skip_bad")
        return load_segmentation_data(
            self.dataset,
            self.data_dir,
            self.protocol,
            layout=self.read_layout(),
            mask_rule=self.read_mask_rule(),
            classes=self.classes,
            intensity=intensity,
            intensity_transform=transform,
            intensity_percentiles=percentiles,
            bands=bands or self.bands or None,
            **{name: getattr(self, name) for name in as_they_are},
        )


def _key_values(option: str, texts: Sequence[str], allowed: Sequence[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or key in values:
            problem = "is given twice" if sign else "is not of the form key=value"
            raise DataError(f"{option}: {text!r} {problem}; keys are {', '.join(allowed)}")
        values[key] = value
    return _checked(option, values, allowed)


def _checked(option: str, values: Mapping, allowed: Sequence[str]) -> dict[str, str]:
    for key, value in values.items():
        if key not in allowed:
            raise DataError(f"{option}: unknown key {key!r}; allowed: {', '.join(allowed)}")
        if not isinstance(value, str) or not value:
            raise DataError(f"{option}: {key} must be text, got {value!r}")
    return dict(values)
