"""Features that come again: what the frozen layers make of an image, computed once and kept in a file."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch


class FeatureCache:
    """Frozen features by image id, in a file as large as they are: the operating system keeps in memory what fits.

    Args:
        encode: (B, 3, T, T) -> features (B, ...).
        path: the file; replaced when it exists, removed by `close`.
        images: how many different images there are.
    """

    def __init__(self, encode: Callable[[torch.Tensor], torch.Tensor], path: Path, images: int):
        self.encode, self.path, self.images = encode, path, images
        self._places: dict[str, int] = {}
        self._file: torch.Tensor | None = None

    def __call__(self, ids: Sequence[str], pixel_values: torch.Tensor) -> torch.Tensor:
        """The features of a batch, on its device. OSError: the disk has no room for those of all images."""
        new = {image_id: number for number, image_id in enumerate(ids) if image_id not in self._places}
        if new:
            features = self.encode(pixel_values[list(new.values())])
            if self._file is None:
                self._file = self._make_file(features)
            for image_id, of_image in zip(new, features, strict=True):
                self._places[image_id] = len(self._places)
                self._file[self._places[image_id]] = of_image
        return self._file[[self._places[image_id] for image_id in ids]].to(pixel_values.device)

    def close(self) -> None:
        self._file = None
        self.path.unlink(missing_ok=True)

    def _make_file(self, features: torch.Tensor) -> torch.Tensor:
        of_all = self.images * features[0].numel()
        size, free = of_all * features.element_size(), shutil.disk_usage(self.path.parent).free
        if size > free:
            raise OSError(f"the features of {self.images} images take {size:,} bytes, {self.path.parent} has {free:,}")
        self.path.unlink(missing_ok=True)
        file = torch.from_file(str(self.path), shared=True, size=of_all, dtype=features.dtype)
        return file.view(self.images, *features.shape[1:])
