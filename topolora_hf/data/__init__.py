"""From files, or a seed, to training tiles: readers, checks, augmentation, synthetic images."""

from .augmentation import Augmentation
from .catalog import CATALOG, DatasetSpec, find_dataset
from .decode import IMAGE_SUFFIXES, decode_image, decode_mask
from .errors import DataError
from .loading import load_segmentation_data
from .tiles import IMAGE_MEAN, IMAGE_STD, TileDataset, largest_half_width, normalise

__all__ = [
    "CATALOG",
    "IMAGE_MEAN",
    "IMAGE_STD",
    "IMAGE_SUFFIXES",
    "Augmentation",
    "DataError",
    "DatasetSpec",
    "TileDataset",
    "decode_image",
    "decode_mask",
    "find_dataset",
    "largest_half_width",
    "load_segmentation_data",
    "normalise",
]
