"""What changes the forward pass, kept where it travels with the weights."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ..adapter_format.form import TRAVELLING, NetworkForm


class TileScaling(nn.Module):
    """Bring a tile from its own pixels (T) to the size that SAM's encoder sees (S).

    What changes the forward pass must travel inside the adapter's file, so that every loader restores it and
    `set_adapter` switches it: it is a small integer buffer of a module that PEFT saves and switches. The buffer is
    read again only after it has been written, never in every forward (a read would wait for the GPU).

    Attributes:
        settings: int64 (4,): image_size S, tile_size T, detail_channels, use_sam (0 or 1); each is an attribute too.
    """

    def __init__(self, form: NetworkForm):
        super().__init__()
        self.initial_settings = tuple(int(getattr(form, name)) for name in TRAVELLING)
        self.register_buffer("settings", torch.tensor(self.initial_settings))
        self._last_read = None

    def __getstate__(self) -> dict:
        # A copy's buffer counts its writes anew: what was read from this one must not pass for the copy's.
        return {**super().__getstate__(), "_last_read": None}

    def _read(self) -> tuple[int, ...]:
        seen, writes = self._last_read, count_writes(self.settings)
        if seen is None or writes is None or seen[0] is not self.settings or seen[1] != writes:
            self._last_read = seen = (self.settings, writes, tuple(self.settings.tolist()))
        return seen[2]

    image_size = property(lambda self: self._read()[0])
    tile_size = property(lambda self: self._read()[1])
    detail_channels = property(lambda self: self._read()[2])
    use_sam = property(lambda self: bool(self._read()[3]))

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Resize (B, 3, T, T) -> (B, 3, S, S), bilinear, antialiased when shrinking.

        Raises:
            ValueError: when the tiles are not T x T.
        """
        tile_size = self.tile_size
        if pixel_values.shape[-2:] != (tile_size, tile_size):
            height, width = pixel_values.shape[-2:]
            raise ValueError(f"the network takes tiles of {tile_size}x{tile_size} pixels, got {height}x{width}")
        return resize_antialiased(pixel_values, (self.image_size, self.image_size))


def count_writes(tensor: torch.Tensor) -> int | None:
    """Count the writes to a tensor in place. None: nobody counts, as it was made in `torch.inference_mode`."""
    return None if tensor.is_inference() else tensor._version


def resize_antialiased(maps: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Resize (B, C, h, w) -> (B, C, *size), bilinear, antialiased when shrinking. At its own size it is untouched."""
    if maps.shape[-2:] == tuple(size):
        return maps
    shrinks = size[0] < maps.shape[-2]
    return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=False, antialias=shrinks)
