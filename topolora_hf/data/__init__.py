"""From files, or a seed, to training tiles: readers, checks, augmentation, synthetic images."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "arguments": ["DataArguments"],
        "augmentation": ["Augmentation"],
        "catalog": ["CATALOG", "DatasetSpec", "find_dataset"],
        "errors": ["DataError"],
        "images.masks": ["decode_mask"],
        "images.names": ["IMAGE_SUFFIXES"],
        "images.pictures": ["decode_image"],
        "intensity": ["IntensityScaling"],
        "loading": ["load_segmentation_data"],
        "protocols": ["PROTOCOLS", "Protocol"],
        "records": ["Layout"],
        "rows": ["SegmentationData"],
        "tiles": ["TileDataset", "largest_half_width"],
        "windows": ["IMAGE_MEAN", "IMAGE_STD", "normalise"],
    },
)
