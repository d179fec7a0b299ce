"""From an image of any size to a probability map of the same size."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from scipy.ndimage import binary_dilation
from torch import nn
from tqdm import tqdm

from ..adapter_format.settings import AdapterSettings
from ..data.decode import decode_image
from ..data.errors import DataError
from ..data.intensity import IntensityScaling
from ..data.limits import max_image_pixels, too_large
from ..data.tiles import normalise
from ..files import whole_file
from ..fundus.normaliser import FundusNormaliser
from ..network.tile_scaling import resize_antialiased
from ..pictures.images import overlay
from .centreline import Centreline

# A bar is shown from this many tiles on, in a terminal.
_LONG_WORK = 100
# Of the longer side, for each that a centreline is drawn broader to either hand.
_PIXELS_A_LINE = 1000
# Each undoes itself, and doubles the number of mirrorings.
_FLIPS = (lambda tiles: tiles.flip(-1), lambda tiles: tiles.flip(-2))


@dataclass
class Prediction:
    """What was seen in one image.

    Attributes:
        image: uint8 (H, W, 3), the image as it was read.
        probability: float32 (H, W) in [0, 1].
        threshold: the probability from which a pixel is foreground.
    """

    __module__ = "topolora_hf"  # wherever the file lies

    image: np.ndarray
    probability: np.ndarray
    threshold: float

    @property
    def mask(self) -> np.ndarray:
        """bool (H, W)."""
        return self.probability >= self.threshold

    @cached_property
    def centreline(self) -> Centreline:
        """The mask's skeleton, measured: for thin structures."""
        return Centreline.of_mask(self.mask)

    def overlay(self, centreline: bool = False) -> Image.Image:
        """The mask drawn over the image; or, for thin structures, its centreline, as wide as can be seen."""
        if not centreline:
            return overlay(self.image, self.mask)
        breadth = 1 + 2 * round(max(self.mask.shape) / _PIXELS_A_LINE)
        return overlay(self.image, binary_dilation(self.centreline.skeleton, np.ones((breadth, breadth))), opacity=1)

    def save_mask(self, path: str | Path, text: Mapping[str, str] | None = None) -> None:
        """An 8-bit PNG, 0 and 255, of the image's own size; `text` is noted in the file by name."""
        _save_whole(Image.fromarray(self.mask.astype(np.uint8) * 255), path, text)

    def save_probability(self, path: str | Path) -> None:
        """A 16-bit grey PNG, 0 to 65535 for 0 to 1."""
        _save_whole(Image.fromarray((self.probability * 65535).round().astype(np.uint16)), path)

    def save_overlay(self, path: str | Path, centreline: bool = False) -> None:
        """The overlay as a PNG."""
        _save_whole(self.overlay(centreline), path)


class Predictor:
    """Segments images of any size, at the scale that the network was trained at.

    View `"tiles"`: overlapping tiles at the image's own resolution, blended with Gaussian weights. View
    `"whole"`: the image resized to one tile, the logits resized back. The settings' calibration scales what comes out
    of it all, so that it is the probability that is given which is calibrated.

    Args:
        model: what `load_adapter` returns, or any network or adapter of this package. It is moved to the device and put
            in evaluation mode, and stays so.
        settings: the adapter's; by default `model.adapter_settings`.
        device: where to run; by default a GPU when there is one.
        overlap: of neighbouring tiles, as a fraction of a tile.
        tile_batch: tiles that run at once.
        dtype: bfloat16 or float16 to run in mixed precision; None runs in the model's own.
        scale: how much images are enlarged before they are cut into tiles, for those at another scale than the training
            images; None: not at all, but retinal photographs so that their disc has the diameter of the training
            images' (vessels twice as wide in pixels are no vessels to a network that never saw them).
        flips: whether each tile is seen as it is, mirrored left to right, top to bottom, and both, and the
            probabilities averaged, in four times the time; None: as the settings say.
        scales: the image is seen at each of these times the size that it otherwise has, and the probabilities averaged:
            (0.8, 1, 1.25) takes 3.2 times the time. It is for photographs whose scale the network is not sure of;
            None: as the settings say.
        match_colours: whether retinal photographs whose colours no training image had are given those that the training
            images had (`FovColours`): as with the scale, what a network never saw it does not know.
        within_fov: whether the ground around the field of view of a fundus photograph, and its rim, are never
            foreground; None: True for an adapter of fundus photographs. The method `probability` gives what the
            network says, everywhere.

    Raises:
        ValueError: when there are no settings, the overlap is not in [0, 1), the tile batch, the temperature or the
            scale is not positive, the scales are not from 0.1 to 10, or a scale or scales are given for view `"whole"`.

    Example:
        >>> import numpy as np
        >>> from topolora_hf import AdapterSettings, Predictor, TopoSamForSegmentation
        >>> network = TopoSamForSegmentation.from_pretrained("topolora_hf/tiny")
        >>> settings = AdapterSettings(base="topolora_hf/tiny", image_size=256, tile_size=256)
        >>> Predictor(network, settings)(np.zeros((70, 300, 3), np.uint8)).mask.shape
        (70, 300)
    """

    __module__ = "topolora_hf"  # wherever the file lies

    def __init__(
        self,
        model: nn.Module,
        settings: AdapterSettings | None = None,
        device: str | torch.device | None = None,
        overlap: float = 0.5,
        tile_batch: int = 4,
        dtype: torch.dtype | None = None,
        scale: float | None = None,
        flips: bool | None = None,
        scales: Sequence[float] | None = None,
        match_colours: bool = True,
        within_fov: bool | None = None,
    ):
        settings = settings or getattr(model, "adapter_settings", None)
        if settings is None:
            raise ValueError("the model carries no adapter_settings: load it with load_adapter, or give settings")
        if not 0 <= overlap < 1:
            raise ValueError(f"overlap must be in [0, 1), got {overlap}")
        if tile_batch < 1:
            raise ValueError(f"tile_batch must be positive, got {tile_batch}")
        if scale is not None and not 0 < scale < math.inf:
            raise ValueError(f"scale must be positive and finite, got {scale}")
        if scale is not None and settings.view == "whole":
            raise ValueError(f"scale={scale} is for images cut into tiles; here the whole image is resized to one")
        if flips is not None:
            settings = replace(settings, test_time_flips=flips)
        if scales is not None:
            settings = replace(settings, test_time_scales=tuple(scales))
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model = model.to(self.device).eval()
        self.settings = settings
        self.calibration = settings.calibration
        self.overlap = overlap
        self.tile_batch = tile_batch
        self.dtype = dtype
        self.fundus = FundusNormaliser(
            settings.disc_diameter,
            settings.disc_colours,
            scale=scale,
            match_colours=match_colours,
            within_fov=within_fov,
        )

    def __call__(self, image: str | Path | Image.Image | np.ndarray) -> Prediction:
        """Segments a file, a PIL image (of any mode), or an RGB array, uint8 (H, W, 3).

        Raises:
            DataError: when the file cannot be read as an image, or is too large once it is enlarged.
            ValueError: when an array has another shape or dtype.
        """
        pixels = _as_array(image, self.settings.intensity)
        prepared, scale, fov = self.fundus.prepare(pixels)
        try:
            probability = self._probability(prepared, scale)
        except DataError as error:
            raise DataError(f"{image if isinstance(image, (str, Path)) else 'the image'}: {error}") from error
        if self.fundus.within_fov:
            probability[~fov.inside()] = 0
        return Prediction(pixels, probability, self.settings.threshold)

    def probability(self, image: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) -> float32 (H, W), the probability of foreground."""
        prepared, scale, _ = self.fundus.prepare(image)
        return self._probability(prepared, scale)

    @torch.inference_mode()
    def _probability(self, image: np.ndarray, scale: float) -> np.ndarray:
        size, tile = image.shape[:2], self.settings.tile_size
        if self.settings.view == "whole":
            resized = F.interpolate(
                self._pixel_values(image), (tile, tile), mode="bilinear", align_corners=False, antialias=True
            )
            probability = self._tile_probability(resized, size)[0, 0].cpu()
        else:
            first, *others = self.settings.test_time_scales
            probability = self._in_tiles(image, scale * first)
            for relative in others:
                probability += self._in_tiles(image, scale * relative)
            probability /= 1 + len(others)
        return self.calibration(probability.clamp_(0, 1).numpy())

    def _pixel_values(self, image: np.ndarray) -> torch.Tensor:
        return normalise(image, self.settings.image_mean, self.settings.image_std)[None].to(self.device)

    def _in_tiles(self, image: np.ndarray, scale: float) -> torch.Tensor:
        """uint8 (H, W, 3) -> float32 (H, W) on the CPU.

        At its own scale an image stays 8 bits: a tile becomes numbers for the network when its turn comes.
        """
        size, tile = image.shape[:2], self.settings.tile_size
        scaled = [max(1, round(side * scale)) for side in size]
        if scale > 1 and math.prod(scaled) > max_image_pixels():
            raise too_large(
                f"{scaled[1]:,} x {scaled[0]:,} pixels when it is enlarged {scale:.4g} times, as `scale`, "
                "`test_time_scales` or the adapter's `disc_diameter` says",
                max_image_pixels(),
            )
        if tuple(scaled) == size and min(size) >= tile:
            return self._blend(size, lambda y, x: self._pixel_values(image[y : y + tile, x : x + tile]))
        pixel_values = resize_antialiased(self._pixel_values(image), scaled)
        missing = [max(0, tile - side) for side in scaled]
        top, left = (side // 2 for side in missing)
        padded = F.pad(pixel_values, (left, missing[1] - left, top, missing[0] - top))
        blended = self._blend(padded.shape[-2:], lambda y, x: padded[..., y : y + tile, x : x + tile])
        blended = blended[top : top + scaled[0], left : left + scaled[1]]
        return resize_antialiased(blended[None, None], size)[0, 0]

    def _blend(self, size: Sequence[int], tile_at: Callable[[int, int], torch.Tensor]) -> torch.Tensor:
        """Overlapping tiles' probabilities, averaged with Gaussian weights.

        As MONAI's `sliding_window_inference`, but for the floor that it gives the weights: where all weights of a place
        are below it, at the image's edges, tiles would count alike, and their borders show.
        Row of tiles by row of tiles: beside the result it holds one band as high as a tile, whatever the image's size.
        """
        tile = self.settings.tile_size
        rows, columns = (_starts(side, tile, self.overlap) for side in size)
        from_centre = torch.arange(tile, device=self.device) - (tile - 1) / 2
        falling = torch.exp(-0.5 * (from_centre / (0.125 * tile)).square())
        weight = falling[:, None] * falling
        result = torch.empty(*size)
        band, weights = (torch.zeros(tile, size[1], device=self.device) for _ in range(2))
        hidden = None if len(rows) * len(columns) >= _LONG_WORK else True  # None: where there is no terminal
        with tqdm(total=len(rows) * len(columns), desc="tiles", leave=False, disable=hidden) as bar:
            for y, following in zip(rows, [*rows[1:], size[0]], strict=True):
                for first in range(0, len(columns), self.tile_batch):
                    batch = columns[first : first + self.tile_batch]
                    probabilities = self._tile_probability(torch.cat([tile_at(y, x) for x in batch]))
                    for x, probability in zip(batch, probabilities[:, 0], strict=True):
                        band[:, x : x + tile] += weight * probability
                        weights[:, x : x + tile] += weight
                    bar.update(len(batch))
                done = following - y
                result[y:following] = (band[:done] / weights[:done]).cpu()
                band, weights = (F.pad(held[done:], (0, 0, 0, done)) for held in (band, weights))
        return result

    def scale_of(self, image: np.ndarray) -> float:
        """How much an image (uint8 (H, W, 3)) is enlarged before it is cut into tiles."""
        return self.fundus.prepare(image)[1]

    def _tile_probability(self, pixel_values: torch.Tensor, size: torch.Size | None = None) -> torch.Tensor:
        """(B, 3, T, T) -> (B, 1, T, T), or of the size to which logits are resized; the mean over the mirrorings."""

        def as_it_is(tiles: torch.Tensor) -> torch.Tensor:
            logits = self._logits(tiles)
            if size is not None:
                logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
            return logits.sigmoid()

        predict = as_it_is
        for flip in _FLIPS if self.settings.test_time_flips else ():
            predict = _mean_with_flipped(predict, flip)
        return predict(pixel_values)

    def _logits(self, pixel_values: torch.Tensor) -> torch.Tensor:
        own = next((tensor.dtype for tensor in self.model.parameters() if tensor.is_floating_point()), torch.float32)
        pixel_values = pixel_values.to(own).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
            return self.model(pixel_values=pixel_values).logits.float()


def _mean_with_flipped(predict: Callable, flip: Callable) -> Callable:
    return lambda tiles: (predict(tiles) + flip(predict(flip(tiles)))) / 2


def _starts(side: int, tile: int, overlap: float) -> list[int]:
    """Where tiles begin along a side, the last at its end.

    >>> _starts(600, 256, 0.5)
    [0, 128, 256, 344]
    """
    step = max(1, int(tile * (1 - overlap)))
    return [min(start, side - tile) for start in range(0, side - tile + step, step)]


def _save_whole(picture: Image.Image, path: str | Path, text: Mapping[str, str] | None = None) -> None:
    notes = PngInfo()
    for name, value in (text or {}).items():
        notes.add_text(name, value)
    with whole_file(path) as temporary:
        picture.save(temporary, format="PNG", pnginfo=notes)


def _as_array(image: str | Path | Image.Image | np.ndarray, intensity: IntensityScaling | None) -> np.ndarray:
    if isinstance(image, (str, Path, Image.Image)):
        return decode_image(image, scaling=intensity)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected an RGB array, uint8 (H, W, 3); got {image.dtype} {image.shape}")
    return image
