"""Rows cut into the square tiles that training sees."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from . import windows
from .augmentation import Augmentation
from .intensity import evenly_spread
from .protocols import VIEWS
from .variations import add_noise, draw_zoom, jitter_colours, tile_generator, turn
from .windows import IMAGE_MEAN, IMAGE_STD

_CENTRE_TRIES = 8


class TileDataset(Dataset):
    """Training tiles as a pure function of (seed, epoch, image id, tile number).

    An item is a dict of `pixel_values` float32 (3, T, T), normalised RGB; `labels` uint8 (K, T, T) of 0 and 1;
    `valid_mask` bool (T, T), the field of view without what lies outside the image (there, `pixel_values` is 0);
    `skeleton` bool (K, T, T), the centreline of each class inside `valid_mask`; and `id` str.

    Args:
        rows: Decoded rows by position: a split of `load_segmentation_data`, or a list of such dicts.
        tile_size: T, in pixels of the image for view "tiles".
        view: "tiles": a random crop at the image's own resolution; "full": the full image resized to T x T.
        tiles_per_image: How many tiles of each image make an epoch.
        seed: Decides crops and augmentation, together with the epoch.
        augmentation: What is varied; None for crops alone.
        image_mean: Of each channel, for values in [0, 1].
        image_std: Likewise.
        with_skeleton: Leave `skeleton` out if False.
        exclusive: No pixel of a row has two classes. One that has, because masks were resized, leaves `valid_mask`.
        cache_bytes: Decoded rows kept by each worker.

    Raises:
        ValueError: A size or count is below 1, or the view is unknown. On reading, a pixel has two exclusive classes.
    """

    __module__ = "topolora_hf"  # wherever the file lies

    def __init__(
        self,
        rows: Sequence[dict[str, Any]],
        tile_size: int,
        *,
        view: str = "tiles",
        tiles_per_image: int = 1,
        seed: int = 0,
        augmentation: Augmentation | None = Augmentation(),  # noqa: B008 (frozen)
        image_mean: Sequence[float] = IMAGE_MEAN,
        image_std: Sequence[float] = IMAGE_STD,
        with_skeleton: bool = True,
        exclusive: bool = False,
        cache_bytes: int = 256 * 2**20,
    ):
        if view not in VIEWS:
            raise ValueError(f"unknown view {view!r}; allowed: {', '.join(VIEWS)}")
        if tile_size < 1 or tiles_per_image < 1:
            raise ValueError(f"tile_size and tiles_per_image must be positive, got {tile_size} and {tiles_per_image}")
        self.rows, self.tile_size, self.view, self.tiles_per_image = rows, tile_size, view, tiles_per_image
        self.seed, self.augmentation, self.with_skeleton = seed, augmentation, with_skeleton
        self.exclusive = exclusive
        self.image_mean, self.image_std = tuple(image_mean), tuple(image_std)
        # Shared memory, so that workers which outlive an epoch see the new one too.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._cache = RowCache(rows, cache_bytes)

    def __len__(self) -> int:
        return len(self.rows) * self.tiles_per_image

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose tiles are made from now on, in all worker processes."""
        self._epoch.fill_(epoch)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"tile {index} of {len(self)}")
        row_number, tile_number = divmod(index, self.tiles_per_image)
        row = self._cache[row_number]
        rng = tile_generator(self.seed, int(self._epoch), row["id"], tile_number)
        image, mask, valid_mask = self._cut(row, rng)
        if self.augmentation is not None:
            image, mask, valid_mask = turn((image, mask, valid_mask), self.augmentation, rng)
        item = {"pixel_values": image, "labels": mask.to(torch.uint8), "valid_mask": valid_mask}
        item = {name: tensor.contiguous() for name, tensor in item.items()} | {"id": row["id"]}
        if self.with_skeleton:
            item["skeleton"] = windows.hard_skeleton(item["labels"] == 1) & item["valid_mask"]
        return item

    def _cut(self, row: dict[str, Any], rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """A T x T window of a row: normalised image, bool (K, T, T) masks and bool field of view."""
        size, (height, width) = self.tile_size, row["valid_mask"].shape
        zoom = draw_zoom(self.augmentation, rng) if self.augmentation else 1.0
        sides = (size, size) if self.view == "tiles" else (height, width)
        sides = [max(1, round(side / zoom)) for side in sides]
        tries = _CENTRE_TRIES if self.view == "tiles" else 1
        window = windows.random_window(row["valid_mask"], *sides, rng, tries)
        image = windows.to_unit_range(row["image"][window.inside])
        if self.augmentation is not None:
            image = add_noise(jitter_colours(image, self.augmentation, rng), self.augmentation, rng)
        # Padding comes after normalisation: outside the image is the mean colour, whatever the jitter.
        image = windows.standardise(image, self.image_mean, self.image_std)
        masks = [np.array(row[name][..., *window.inside], bool) for name in ("mask", "valid_mask")]
        if self.exclusive and (shared := int((masks[0].sum(0) > 1).sum())):
            raise ValueError(f"{row['id']}: {shared} pixels are of two classes or more, and the classes are exclusive")
        parts = (image, *map(torch.from_numpy, masks))
        image, mask, valid_mask = (windows.pad_outside(part, window, height, width) for part in parts)
        resized = windows.resize_image(image, size), windows.resize_mask(mask, size)
        valid_mask = windows.resize_valid_mask(valid_mask, size)
        return *resized, valid_mask & (resized[1].sum(0) <= 1) if self.exclusive else valid_mask


class RowCache:
    """The most recently read rows, up to a number of bytes: a worker decodes an image once for all its tiles."""

    def __init__(self, rows: Sequence[dict[str, Any]], limit_bytes: int):
        self._rows, self._room = rows, limit_bytes
        self._kept: OrderedDict[int, dict[str, Any]] = OrderedDict()

    def __getitem__(self, number: int) -> dict[str, Any]:
        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number]
        row = self._kept[number] = self._rows[number]
        self._room -= _row_bytes(row)
        while self._room < 0:
            self._room += _row_bytes(self._kept.popitem(last=False)[1])
        return row


def _row_bytes(row: dict[str, Any]) -> int:
    return sum(value.nbytes for value in row.values() if isinstance(value, np.ndarray))


def largest_half_width(
    rows: Sequence[dict[str, Any]],
    *,
    limit: int = 50,
    full_tile_size: int | None = None,
    maps: Sequence[int] | None = None,
) -> int:
    """Half the width in pixels of the widest structure: how many erosions a soft skeleton needs to reach its centre.

    Args:
        rows: Decoded rows with a `mask` (K, H, W).
        limit: How many of them are measured, evenly spread over the set.
        full_tile_size: For view "full", the side to which masks are resized before they are measured.
        maps: Which of the K are measured; None: all.

    Returns:
        The largest distance, rounded up, from a foreground pixel's centre to the nearest background pixel's, which may
        lie outside the image; 0 if there is no foreground.

    >>> mask = np.zeros((1, 9, 9), np.uint8)
    >>> mask[0, 2:7] = 1
    >>> largest_half_width([{"mask": mask}])
    3
    """
    from scipy.ndimage import distance_transform_edt

    if hasattr(rows, "select_columns"):  # of a `datasets.Dataset`: the images need not be decoded for this
        rows = rows.select_columns(["mask"])
    largest = 0.0
    for number in evenly_spread(range(len(rows)), limit):
        mask = torch.from_numpy(np.array(rows[number]["mask"], dtype=bool)[slice(None) if maps is None else maps])
        if full_tile_size is not None:
            mask = windows.resize_mask(mask, full_tile_size)
        distances = [distance_transform_edt(np.pad(each, 1)) for each in mask.numpy()]
        largest = max(largest, *(float(each.max()) for each in distances))
    return int(np.ceil(largest))
