"""From an image of any size to a probability map of the same size."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from monai.inferers import sliding_window_inference
from PIL import Image
from torch import nn

from ..adapters import AdapterSettings
from ..data import IMAGE_SUFFIXES, DataError, IntensityScaling, decode_image, normalise
from ..data.field_of_view import disc_diameter, estimate_field_of_view
from ..metrics.temperature import apply_temperature
from ..network.tile_scaling import resize_antialiased
from .pictures import overlay

# Within a tenth the scales that training varied over suffice.
_LEAST_CHANGE_OF_SCALE = 1.1
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

    image: np.ndarray
    probability: np.ndarray
    threshold: float

    @property
    def mask(self) -> np.ndarray:
        """bool (H, W)."""
        return self.probability >= self.threshold

    def overlay(self) -> Image.Image:
        """The mask drawn over the image."""
        return overlay(self.image, self.mask)

    def save_mask(self, path: str | Path) -> None:
        """An 8-bit PNG, 0 and 255, of the image's own size."""
        Image.fromarray(self.mask.astype(np.uint8) * 255).save(path, format="PNG")

    def save_probability(self, path: str | Path) -> None:
        """A 16-bit grey PNG, 0 to 65535 for 0 to 1."""
        Image.fromarray((self.probability * 65535).round().astype(np.uint16)).save(path, format="PNG")


class Predictor:
    """Segments images of any size, at the scale that the network was trained at.

    View `"tiles"`: overlapping tiles at the image's own resolution, blended with Gaussian weights (MONAI). View
    `"whole"`: the image resized to one tile, the logits resized back. The settings' temperature scales what comes out
    of it all, so that it is the probability that is given which is calibrated, and the mask at threshold 0.5 is the
    same at every temperature.

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

    Raises:
        ValueError: when there are no settings, the overlap is not in [0, 1), the tile batch, the temperature or the
            scale is not positive, or a scale is given for view `"whole"`.

    Example:
        >>> import numpy as np
        >>> from topolora_hf import AdapterSettings, Predictor, TopoSamForSegmentation
        >>> network = TopoSamForSegmentation.from_pretrained("topolora_hf/tiny")
        >>> settings = AdapterSettings(base="topolora_hf/tiny", image_size=256, tile_size=256)
        >>> Predictor(network, settings)(np.zeros((70, 300, 3), np.uint8)).mask.shape
        (70, 300)
    """

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
    ):
        settings = settings or getattr(model, "adapter_settings", None)
        if settings is None:
            raise ValueError("the model carries no adapter_settings: load it with load_adapter, or give settings")
        if not 0 <= overlap < 1:
            raise ValueError(f"overlap must be in [0, 1), got {overlap}")
        if tile_batch < 1:
            raise ValueError(f"tile_batch must be positive, got {tile_batch}")
        if not settings.temperature > 0:
            raise ValueError(f"temperature must be positive, got {settings.temperature}")
        if scale is not None and not scale > 0:
            raise ValueError(f"scale must be positive, got {scale}")
        if scale is not None and settings.view == "whole":
            raise ValueError(f"scale={scale} is for images cut into tiles; here the whole image is resized to one")
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model = model.to(self.device).eval()
        self.settings = settings
        self.overlap = overlap
        self.tile_batch = tile_batch
        self.dtype = dtype
        self.scale = scale
        self.flips = settings.test_time_flips if flips is None else flips

    def __call__(self, image: str | Path | Image.Image | np.ndarray) -> Prediction:
        """Segments a file, a PIL image (of any mode), or an RGB array, uint8 (H, W, 3).

        Raises:
            DataError: when the file cannot be read as an image.
            ValueError: when an array has another shape or dtype.
        """
        pixels = _as_array(image, self.settings.intensity)
        return Prediction(pixels, self.probability(pixels), self.settings.threshold)

    @torch.inference_mode()
    def probability(self, image: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) -> float32 (H, W), the probability of foreground."""
        pixel_values = normalise(image, self.settings.image_mean, self.settings.image_std)[None].to(self.device)
        size, tile = pixel_values.shape[-2:], self.settings.tile_size
        if self.settings.view == "whole":
            resized = F.interpolate(pixel_values, (tile, tile), mode="bilinear", align_corners=False, antialias=True)
            probability = self._tile_probability(resized, size)
        else:
            scale = self.scale_of(image)
            probability = sliding_window_inference(
                resize_antialiased(pixel_values, [max(1, round(side * scale)) for side in size]),
                roi_size=(tile, tile),
                sw_batch_size=self.tile_batch,
                predictor=self._tile_probability,
                overlap=self.overlap,
                mode="gaussian",
            )
            probability = resize_antialiased(probability, size)
        return apply_temperature(probability[0, 0].clamp(0, 1).cpu().numpy(), self.settings.temperature)

    def scale_of(self, image: np.ndarray) -> float:
        """How much an image (uint8 (H, W, 3)) is enlarged before it is cut into tiles."""
        if self.scale is not None or self.settings.disc_diameter is None:
            return self.scale or 1.0
        diameter = disc_diameter(estimate_field_of_view(image))
        if diameter is None:
            return 1.0
        ratio = self.settings.disc_diameter / diameter
        return ratio if max(ratio, 1 / ratio) > _LEAST_CHANGE_OF_SCALE else 1.0

    def _tile_probability(self, pixel_values: torch.Tensor, size: torch.Size | None = None) -> torch.Tensor:
        """(B, 3, T, T) -> (B, 1, T, T), or of the size to which logits are resized; the mean over the mirrorings."""

        def as_it_is(tiles: torch.Tensor) -> torch.Tensor:
            logits = self._logits(tiles)
            if size is not None:
                logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
            return logits.sigmoid()

        predict = as_it_is
        for flip in _FLIPS if self.flips else ():
            predict = _mean_with_flipped(predict, flip)
        return predict(pixel_values)

    def _logits(self, pixel_values: torch.Tensor) -> torch.Tensor:
        pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
            return self.model(pixel_values=pixel_values).logits.float()


def _mean_with_flipped(predict: Callable, flip: Callable) -> Callable:
    return lambda tiles: (predict(tiles) + flip(predict(flip(tiles)))) / 2


def find_images(patterns: Sequence[str | Path]) -> list[Path]:
    """Image files from files, folders (not their sub-folders) and glob patterns, each once, in order.

    Raises:
        DataError: when a path does not exist, or nothing that it names is an image.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if _looks_like_an_image(file))
        elif path.is_file():
            files = [path]
        else:
            files = sorted(file for file in map(Path, glob(str(pattern), recursive=True)) if _looks_like_an_image(file))
        if not files:
            raise DataError(
                f"no images at {pattern}: expected a file, a folder or a glob of {', '.join(sorted(IMAGE_SUFFIXES))}"
            )
        found.update(dict.fromkeys(files))
    return list(found)


def _looks_like_an_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".") and file.is_file()


def _as_array(image: str | Path | Image.Image | np.ndarray, intensity: IntensityScaling | None) -> np.ndarray:
    if isinstance(image, (str, Path, Image.Image)):
        return decode_image(image, scaling=intensity)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected an RGB array, uint8 (H, W, 3); got {image.dtype} {image.shape}")
    return image
