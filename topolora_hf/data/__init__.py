"""From files, or a seed, to training tiles: readers, checks, augmentation, synthetic images."""

from .arguments import DataArguments
from .augmentation import Augmentation
from .catalog import CATALOG, DatasetSpec, find_dataset
from .decode import IMAGE_SUFFIXES, decode_image, decode_mask
from .disc_colours import DiscColours
from .errors import DataError
from .field_of_view import estimate_field_of_view
from .intensity import IntensityScaling
from .loading import PAPER_SIZE, SegmentationData, load_segmentation_data
from .records import Layout
from .tiles import IMAGE_MEAN, IMAGE_STD, TileDataset, largest_half_width, normalise

__all__ = [
    "CATALOG",
    "IMAGE_MEAN",
    "IMAGE_STD",
    "IMAGE_SUFFIXES",
    "PAPER_SIZE",
    "Augmentation",
    "DataArguments",
    "DataError",
    "DatasetSpec",
    "DiscColours",
    "IntensityScaling",
    "Layout",
    "SegmentationData",
    "TileDataset",
    "decode_image",
    "decode_mask",
    "estimate_field_of_view",
    "find_dataset",
    "largest_half_width",
    "load_segmentation_data",
    "normalise",
]
