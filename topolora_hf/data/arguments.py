"""What a command can be told of a data set: the same flags for training, scoring and describing."""

from dataclasses import dataclass, field, fields

from ..fundus.field_of_view import FIELDS_OF_VIEW
from ..settings import option
from .intensity import PERCENTILES, TRANSFORMS, IntensityScaling
from .loading import SegmentationData, load_segmentation_data
from .records import Layout


@dataclass(kw_only=True)
class DataArguments(Layout):
    """Which data set, and how it is read; only `dataset` is required."""

    dataset: str = field(
        metadata={
            "help": "drive, stare, chase_db1, kvasir, sl_ssdd or synthetic; a folder, archive or table of images and "
            "masks; or a data set on the Hub (org/name)"
        }
    )
    data_dir: str | None = option(
        None, "where the files of a named data set lie (folder or archive); by default they come from the Hub"
    )
    protocol: str = option(
        "native",
        "how images are cut and scored; native: at their own resolution, inside the field of view; paper: crops of 384 "
        "pixels, scored on whole images squashed to 384, only to reproduce the paper's table",
    )
    split: str = option("default", "which of the set's lists divide it; idiap: those of the published baselines")
    grader: int = option(1, "whose masks, where two people drew some: 1 or 2")
    fov: str | None = option(
        None,
        f"field of view ({', '.join(FIELDS_OF_VIEW)}): auto finds the retinal disc where no file gives it, given uses "
        "files alone, none takes everything; by default as suits the data set",
    )
    intensity_transform: str = option(
        "linear", f"for images of more than 8 bits ({', '.join(TRANSFORMS)}); sqrt or log suit radar amplitude"
    )
    intensity_low: float = option(PERCENTILES[0], "percentile of their values that becomes black")
    intensity_high: float = option(PERCENTILES[1], "percentile of their values that becomes white")
    validation_fraction: float = option(0.1, "of the training images, where the data set has no validation split")
    seed: int = option(0, "decides the validation images")
    skip_bad: bool = option(False, "leave out unusable images, and say which, rather than stop")
    allow_partial: bool = option(False, "accept an archive with files missing")

    def layout(self) -> Layout:
        """The part that says where images and masks are."""
        return Layout(**{item.name: getattr(self, item.name) for item in fields(Layout)})

    def load(self, intensity: IntensityScaling | None = None) -> SegmentationData:
        """The data set that these settings name.

        Args:
            intensity: An adapter's own scaling of images of more than 8 bits; by default fitted on the training images.

        Raises:
            DataError: As `load_segmentation_data` does.
        """
        return load_segmentation_data(
            self.dataset,
            self.data_dir,
            self.protocol,
            split=self.split,
            grader=self.grader,
            fov=self.fov,
            layout=self.layout(),
            intensity=intensity,
            intensity_transform=self.intensity_transform,
            intensity_percentiles=(self.intensity_low, self.intensity_high),
            validation_fraction=self.validation_fraction,
            seed=self.seed,
            skip_bad=self.skip_bad,
            allow_partial=self.allow_partial,
        )
