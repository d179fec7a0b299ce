"""From files, or a seed, to training tiles: readers, checks, augmentation, synthetic images."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "arguments": ["DataArguments"],
        "augmentation": ["Augmentation"],
        "catalog": ["CATALOG", "DatasetSpec", "find_dataset"],
        "decode": ["decode_image", "decode_mask"],
        "images.names": ["IMAGE_SUFFIXES"],
        "errors": ["DataError"],
        "intensity": ["IntensityScaling"],
        "loading": ["SegmentationData", "load_segmentation_data"],
        "protocols": ["PROTOCOLS", "Protocol"],
        "records": ["Layout"],
        "tiles": ["IMAGE_MEAN", "IMAGE_STD", "TileDataset", "largest_half_width", "normalise"],
    },
)
