"""From files, or a seed, to training tiles: readers, checks, augmentation, synthetic images."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "arguments": ["DataArguments"],
        "augmentation": ["Augmentation"],
        "catalog": ["CATALOG", "DatasetSpec", "find_dataset"],
        "decode": ["IMAGE_SUFFIXES", "decode_image", "decode_mask"],
        "errors": ["DataError"],
        "intensity": ["IntensityScaling"],
        "loading": ["PAPER_SIZE", "SegmentationData", "load_segmentation_data"],
        "records": ["Layout"],
        "tiles": ["IMAGE_MEAN", "IMAGE_STD", "TileDataset", "largest_half_width", "normalise"],
    },
)
