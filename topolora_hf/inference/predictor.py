"""From an image of any size to a probability map of the same size."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from ..adapter_format.settings import AdapterSettings
from ..data.errors import DataError
from ..data.images.limits import max_image_pixels, too_large
from ..data.images.pictures import read_picture
from ..data.windows import normalise
from ..fundus.normaliser import FundusNormaliser
from ..network.tile_scaling import resize_antialiased
from ..processes import best_device
from .doubts import doubts
from .prediction import Prediction
from .tiling import blend_tiles

# Each undoes itself, and doubles the number of mirrorings.
_FLIPS = (lambda tiles: tiles.flip(-1), lambda tiles: tiles.flip(-2))


class Predictor:
    """Segment images of any size, at the scale that the network was trained at.

    View `"tiles"`: overlapping tiles at the image's own resolution, blended with Gaussian weights. View `"full"`: the
    image resized to one tile, the logits resized back. The settings' calibration is applied last, so the returned
    probability is the calibrated one.

    The settings are read at each call: after `model.set_adapter(name)` they are those of the other adapter.

    Args:
        model: What `load_adapter` returns, or any network or adapter of this package. It is moved to the device and put
            in evaluation mode, and stays so.
        settings: The adapter's; by default `model.adapter_settings`.
        device: Where to run; by default a GPU if there is one.
        overlap: Of neighbouring tiles, as a fraction of a tile.
        tile_batch: Tiles that run at once.
        dtype: bfloat16 or float16 to run in mixed precision; None runs in the model's own.
        threshold: Probability from which a pixel is foreground; None: as the settings say.
        scale: Enlarge images by this factor before they are cut into tiles, if their scale is not that of the training
            images. None: no scaling, except for fundus photographs, which are scaled to the field-of-view diameter of
            the training images.
        flips: Whether to average the probabilities of each tile's four mirrorings, in four times the time; None: as the
            settings say.
        scales: Average the probabilities over these scales, relative to the one the image has otherwise. (0.8, 1, 1.25)
            takes 3.2 times the time. For photographs of a doubtful scale; None: as the settings say.
        match_colours: Whether to give fundus photographs with colours outside the training range the training images'
            colours (`FovColours`).
        within_fov: Whether the ground around the field of view of a fundus photograph, and its rim, are never
            foreground; None: True for an adapter of fundus photographs. The method `probability` gives what the
            network says, everywhere.

    Raises:
        ValueError: There are no settings; the overlap is not in [0, 1), or the threshold not in [0, 1]; the tile batch,
            the temperature or the scale is not positive; the scales are not from 0.1 to 10; or a scale or scales are
            given for view `"full"`.

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
        threshold: float | None = None,
        scale: float | None = None,
        flips: bool | None = None,
        scales: Sequence[float] | None = None,
        match_colours: bool = True,
        within_fov: bool | None = None,
    ):
        if not 0 <= overlap < 1:
            raise ValueError(f"overlap must be in [0, 1), got {overlap}")
        if tile_batch < 1:
            raise ValueError(f"tile_batch must be positive, got {tile_batch}")
        if threshold is not None and not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {threshold}")
        if scale is not None and not 0 < scale < math.inf:
            raise ValueError(f"scale must be positive and finite, got {scale}")
        changes = {"threshold": threshold, "test_time_flips": flips, "test_time_scales": scales and tuple(scales)}
        self._changes = {name: value for name, value in changes.items() if value is not None}
        self._settings = settings
        self._fundus = {"scale": scale, "match_colours": match_colours, "within_fov": within_fov}
        self.model = model
        self.settings.calibration  # noqa: B018  an error now rather than at the first image
        self.fundus  # noqa: B018
        self.device = torch.device(device or best_device())
        self.model = model.to(self.device).eval()
        self.overlap = overlap
        self.tile_batch = tile_batch
        self.dtype = dtype

    @property
    def settings(self) -> AdapterSettings:
        """Those of the active adapter, with the changes that the predictor was made with."""
        settings = self._settings or getattr(self.model, "adapter_settings", None)
        if settings is None:
            raise ValueError("the model carries no adapter_settings: load it with load_adapter, or give settings")
        return replace(settings, **self._changes) if self._changes else settings

    @property
    def fundus(self) -> FundusNormaliser:
        """What is done to a photograph before it is cut into tiles."""
        settings, scale = self.settings, self._fundus["scale"]
        if scale is not None and settings.view != "tiles":
            raise ValueError(f"scale={scale} is for images cut into tiles; here the full image is resized to one")
        return FundusNormaliser(settings.fov_diameter, settings.fov_colours, **self._fundus)

    def __call__(self, image: str | Path | Image.Image | np.ndarray) -> Prediction:
        """Segment a file, a PIL image (of any mode), or an RGB array, uint8 (H, W, 3).

        Raises:
            DataError: The file cannot be read as an image, or is too large once it is enlarged.
            ValueError: An array has another shape or dtype.
        """
        settings, fundus = self.settings, self.fundus
        pixels, has_data = _pixels_of(image, settings)
        prepared, scale, fov = fundus.prepare(pixels)
        try:
            probability = self._probability(prepared, scale)
        except DataError as error:
            raise DataError(f"{image if isinstance(image, (str, Path)) else 'the image'}: {error}") from error
        if fundus.within_fov:
            probability[~fov.inside()] = 0
        if has_data is not None:
            probability[~has_data] = 0
        warnings = doubts(settings, fov, probability >= settings.threshold)
        return Prediction(pixels, probability, settings.threshold, warnings)

    def probability(self, image: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) -> float32 (H, W), the probability of foreground."""
        prepared, scale, _ = self.fundus.prepare(image)
        return self._probability(prepared, scale)

    def scale_of(self, image: np.ndarray) -> float:
        """Factor by which an image (uint8 (H, W, 3)) is enlarged before it is cut into tiles."""
        return self.fundus.prepare(image)[1]

    @torch.inference_mode()
    def _probability(self, image: np.ndarray, scale: float) -> np.ndarray:
        size, settings = image.shape[:2], self.settings
        tile = settings.tile_size
        if settings.view == "tiles":
            first, *others = settings.test_time_scales
            probability = self._in_tiles(image, scale * first)
            for relative in others:
                probability += self._in_tiles(image, scale * relative)
            probability /= 1 + len(others)
        else:
            resized = F.interpolate(
                self._pixel_values(image), (tile, tile), mode="bilinear", align_corners=False, antialias=True
            )
            probability = self._tile_probability(resized, size)[0, 0].cpu()
        return settings.calibration(probability.clamp_(0, 1).numpy())

    def _pixel_values(self, image: np.ndarray) -> torch.Tensor:
        settings = self.settings
        return normalise(image, settings.image_mean, settings.image_std)[None].to(self.device)

    def _in_tiles(self, image: np.ndarray, scale: float) -> torch.Tensor:
        """uint8 (H, W, 3) -> float32 (H, W) on the CPU.

        At its own scale an image stays 8 bits: a tile becomes numbers for the network when its turn comes.
        """
        size, tile = image.shape[:2], self.settings.tile_size
        scaled = [max(1, round(side * scale)) for side in size]
        if scale > 1 and math.prod(scaled) > max_image_pixels():
            raise too_large(
                f"{scaled[1]:,} x {scaled[0]:,} pixels when it is enlarged {scale:.4g} times, as `scale`, "
                "`test_time_scales` or the adapter's `fov_diameter` says"
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
        def probability_of(y: int, columns: Sequence[int]) -> torch.Tensor:
            return self._tile_probability(torch.cat([tile_at(y, x) for x in columns]))[:, 0]

        return blend_tiles(size, self.settings.tile_size, self.overlap, self.tile_batch, self.device, probability_of)

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


def _pixels_of(
    image: str | Path | Image.Image | np.ndarray, settings: AdapterSettings
) -> tuple[np.ndarray, np.ndarray | None]:
    """uint8 (H, W, 3), and where a file has data (bool (H, W), None: everywhere)."""
    if isinstance(image, (str, Path, Image.Image)):
        picture = read_picture(image, bands=settings.bands)
        return picture.rgb(settings.intensity), picture.valid
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected an RGB array, uint8 (H, W, 3); got {image.dtype} {image.shape}")
    return image, None
