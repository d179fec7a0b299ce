"""What changes the forward pass, kept where it travels with the weights."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ..adapter_format.form import TRAVELLING, NetworkForm
from ..adapter_format.settings import AdapterSettings
from .detail_branch import STRIDE


class TileScaling(nn.Module):
    """Bring a tile from its own pixels (T) to the size that SAM's encoder sees (S).

    What changes the forward pass must travel inside the adapter's file, so that every loader restores it and
    `set_adapter` switches it: it is a small integer buffer of a module that PEFT saves and switches. The buffer is
    read when it is loaded, never in a forward (a read would wait for the GPU).

    Attributes:
        settings: int64 (4,): image_size S, tile_size T, detail_channels, use_sam (0 or 1); of several classes (5,),
            with num_labels K. Each is an attribute too.
        adapter_settings: those that go with these weights, or None. Every adapter has a module of this class, so
            whatever PEFT does (switch, merge, delete) does it to them as well.
    """

    def __init__(self, form: NetworkForm):
        super().__init__()
        self.adapter_settings: AdapterSettings | None = None
        self.register_buffer("settings", torch.zeros(len(TRAVELLING), dtype=torch.int64))
        self.change(**{name: getattr(form, name) for name in TRAVELLING})

    def change(self, **values: int) -> None:
        """Change some of them."""
        for name, value in values.items():
            setattr(self, name, value)
        if self.adapter_settings is not None and self.adapter_settings.num_labels != self.num_labels:
            self.adapter_settings = self.adapter_settings.with_classes(self.num_labels)
        numbers = [int(value) for value in self.travelling.values()]
        self.settings = torch.tensor(numbers if self.num_labels > 1 else numbers[:-1], device=self.settings.device)

    @property
    def travelling(self) -> dict:
        """All of them by their names."""
        return {name: getattr(self, name) for name in TRAVELLING}

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        if prefix + "settings" in state_dict:
            vars(self).update(travelling_values(state_dict[prefix + "settings"]))

    def check(self, pixel_values: torch.Tensor) -> None:
        """Check that tiles are (B, 3, T, T) or, without SAM, of sides that `STRIDE` divides. Raises ValueError."""
        height, width = pixel_values.shape[-2:]
        if (height, width) == (self.tile_size, self.tile_size):
            return
        if self.use_sam or height % STRIDE or width % STRIDE:
            others = "" if self.use_sam else f" or, without SAM, of sides that {STRIDE} divides"
            taken = f"tiles of {self.tile_size}x{self.tile_size} pixels{others}"
            raise ValueError(f"the network takes {taken}, got {height}x{width}")

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Resize (B, 3, T, T) -> (B, 3, S, S), bilinear, antialiased when shrinking."""
        return resize_antialiased(pixel_values, (self.image_size, self.image_size))


def travelling_values(settings: torch.Tensor) -> dict:
    """Read `TileScaling.settings`."""
    values = {"num_labels": 1, **dict(zip(TRAVELLING, settings.tolist(), strict=False))}
    return {**values, "use_sam": bool(values["use_sam"])}


def resize_antialiased(maps: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Resize (B, C, h, w) -> (B, C, *size), bilinear, antialiased when shrinking. At its own size it is untouched."""
    if maps.shape[-2:] == tuple(size):
        return maps
    if size[1] == 1 < size[0]:  # antialiased, torch takes every row of such a map for its first
        return resize_antialiased(maps.mT, size[::-1]).mT
    shrinks = size[0] < maps.shape[-2] or size[1] < maps.shape[-1]
    # On a CPU torch shrinks no maps of half precision.
    dtype = torch.promote_types(maps.dtype, torch.float32) if maps.device.type == "cpu" else maps.dtype
    resized = F.interpolate(maps.to(dtype), tuple(size), mode="bilinear", align_corners=False, antialias=shrinks)
    return resized.to(maps.dtype)
