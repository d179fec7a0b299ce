"""From an image of any size to probability maps of the same size."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial, reduce
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from ..adapter_format.settings import AdapterSettings
from ..data.errors import DataError
from ..data.images.limits import PIXELS_VARIABLE, max_image_pixels, too_large
from ..data.images.pictures import Picture, read_picture
from ..data.intensity import IntensityScaling
from ..data.place import read_place
from ..fundus.normaliser import FieldOfView, FundusNormaliser, step_of
from ..geo.raster import HeldRows, Raster
from ..network.detail_branch import STRIDE
from ..network.tile_scaling import resize_antialiased
from ..objective.losses import class_probabilities
from ..processes import best_device, fast_dtype, tiles_at_once
from .doubts import doubts
from .prediction import Prediction
from .tiling import Corners, Tiles, Windows, join_rows, mirrored

_SECTION_PIXELS = 2**25  # a larger image is resized in sections, and so is one with a longer side than
_SECTION_SIDE = 2**20


class Predictor:
    """Segment images of any size, at the scale that the network was trained at.

    View `"tiles"`: overlapping tiles at the image's own resolution, blended with Gaussian weights; without SAM each
    pixel once, with all around it that the network sees. View `"full"`: the image resized to one tile, the logits
    resized back. Then the settings' calibration is applied. Outside the field of view of a fundus photograph, and where
    a file has no data, the probability is 0.

    The settings are read at each call: after `model.set_adapter(name)` they are those of the other adapter.

    Args:
        model: What `load_adapter` returns, or any network or adapter of this package. It is moved to the device and put
            in evaluation mode, and stays so.
        settings: The adapter's; by default `model.adapter_settings`.
        device: Where to run; by default a GPU if there is one.
        overlap: Of neighbouring tiles, as a fraction of a tile. None: 0.5; without SAM no tiles at all.
        tile_batch: Tiles that run at once; None: 4 on a CPU, on a GPU as many as its memory holds.
        dtype: float32 runs in the model's own precision, bfloat16 and float16 in mixed precision; `"auto"` is bfloat16
            on a GPU that computes in it, else float32.
        threshold: Probability from which a pixel is foreground, a number or one a class; None: as the settings say.
        scale: Enlarge images by this factor before they are cut into tiles. None: no scaling, except for fundus
            photographs, which are scaled to the field-of-view diameter of the training images.
        flips: Average over each tile's four mirrorings, in four times the time; None: as the settings say.
        scales: Average over these scales, relative to the one the image has otherwise; None: as the settings say, and
            (1, 1.5, 2) for fundus photographs at least 1.9 times as many pixels wide as the training images.
        match_colours: Give fundus photographs with colours outside the training range the training images' colours.
        within_fov: Nothing is foreground outside the field of view of a fundus photograph, or on its rim; None: True
            for an adapter of fundus photographs.
        bands: Numbers of the bands to take of each image, from 1, one or three; None: as the settings say.

    Raises:
        ValueError: There are no settings; an argument is outside its range; or a scale or scales are given for view
            `"full"`.

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
        overlap: float | None = None,
        tile_batch: int | None = None,
        dtype: torch.dtype | str = "auto",
        threshold: float | Sequence[float] | None = None,
        scale: float | None = None,
        flips: bool | None = None,
        scales: Sequence[float] | None = None,
        match_colours: bool = True,
        within_fov: bool | None = None,
        bands: Sequence[int] | None = None,
    ):
        if overlap is not None and not 0 <= overlap < 1:
            raise ValueError(f"overlap must be in [0, 1), got {overlap}")
        if tile_batch is not None and tile_batch < 1:
            raise ValueError(f"tile_batch must be positive, got {tile_batch}")
        threshold = tuple(threshold) if isinstance(threshold, Sequence) else threshold
        if threshold is not None and not np.all((np.array(threshold) >= 0) & (np.array(threshold) <= 1)):
            raise ValueError(f"threshold must be in [0, 1], got {threshold}")
        if scale is not None and not 0 < scale < math.inf:
            raise ValueError(f"scale must be positive and finite, got {scale}")
        changes = {
            "threshold": threshold,
            "bands": bands and tuple(bands),
            "test_time_flips": flips,
            "test_time_scales": scales and tuple(scales),
        }
        self._changes = {name: value for name, value in changes.items() if value is not None}
        self._settings = settings
        self._fundus = {"scale": scale, "match_colours": match_colours, "within_fov": within_fov}
        self._fundus["finer_at_larger_scales"] = scales is None
        self.model = model
        self.settings.calibration, self.fundus  # noqa: B018  an error now rather than at the first image
        self.device = torch.device(device or best_device())
        self.model = model.to(self.device).eval()
        self.overlap, self.tile_batch = overlap, tile_batch
        dtype = fast_dtype(self.device) if dtype == "auto" else dtype
        self.dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
        self.precision = str(self.dtype).removeprefix("torch.")

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

    def __call__(self, image: str | Path | Image.Image | np.ndarray, name: str | None = None) -> Prediction:
        """Segment an image. All masks and scores of the package come from here.

        Args:
            image: A file, a PIL image (of any mode), or an RGB array, uint8 (H, W, 3).
            name: What errors call it; by default the file.

        Raises:
            DataError: The file cannot be read as an image, or is too large once it is enlarged.
            FloatingPointError: The network gives numbers that are not finite.
            MemoryError: There is too little.
            ValueError: An array has another shape or dtype.
        """
        settings, fundus = self.settings, self.fundus
        picture = _picture_of(image, settings)
        place = read_place(image) if isinstance(image, (str, Path)) else None
        is_turned = place is not None and picture.orientation != 1
        # An array is what a data set's row holds: its intensity was scaled when it was read.
        pixels = picture.values if isinstance(image, np.ndarray) else picture.rgb(settings.intensity)
        with _naming(name or (image if isinstance(image, (str, Path)) else "the image")):
            prepared, scale, fov = fundus.prepare(pixels)
            probabilities = self._from_network(prepared, scale)
            inside = fov.inside() if fundus.within_fov else np.ones(probabilities.shape[1:], bool)
        if picture.valid is not None:
            inside = inside & picture.valid
        probabilities[:, ~inside] = 0
        classes = settings.thresholds, settings.labels, settings.exclusive
        prediction = Prediction(pixels, probabilities, *classes, inside=inside)
        prediction.place = None if is_turned else place
        prediction.is_finer = settings.view == "tiles" and fundus.scales(scale) is not None
        prediction.warnings = doubts(settings, fov, prediction.mask)
        if is_turned:
            prediction.warnings += ("it is stored turned, so its mask is written without its place on the map",)
        return prediction

    def by_rows(self, raster: Raster, start: int = 0) -> Iterator[tuple[int, Prediction]]:
        """Segment an image that need not fit in memory, and yield the rows that are finished.

        They are to the bit those of the prediction of the whole image, wherever it starts.

        Args:
            raster: What `topolora_hf.geo.raster.opened_by_rows` yields.
            start: The first row that is wanted: one of `row_starts`.

        Yields:
            A row, and the prediction of it and of those that follow.

        Raises:
            DataError: A part cannot be read, or the settings need the whole image.
            FloatingPointError: The network gives numbers that are not finite.
        """
        settings = self.settings
        scaling = raster.scaling(settings.intensity)
        self._require_rows_alone(raster, scaling)
        classes = settings.thresholds, settings.labels, settings.exclusive
        batch, held = self.tile_batch or tiles_at_once(self.device, settings.image_size), HeldRows(raster, scaling)
        while start < raster.size[0]:
            try:
                for top, probabilities in self._blended_rows(held, raster.size, batch, start):
                    start = top + probabilities.shape[1]
                    pixels, inside = held.between(top, start)
                    probabilities = self._calibrated(probabilities)
                    probabilities[:, ~inside] = 0
                    yield top, Prediction(pixels, probabilities, *classes, inside=inside)
            except torch.OutOfMemoryError:
                if self.tile_batch is not None or batch == 1:
                    raise
                batch, held = batch // 2, HeldRows(raster, held.scaling)

    def row_starts(self, size: Sequence[int]) -> list[int]:
        """The rows at which `by_rows` can start, of an image of that height and width."""
        return self._cut().starts(size)

    def _cut(self, batch: int = 1) -> Tiles | Windows:
        tile, radius = self.settings.tile_size, getattr(self.model, "receptive_radius", None)
        if radius is not None and self.overlap is None:
            return Windows(tile, radius, STRIDE)
        overlap = 0.5 if self.overlap is None else self.overlap
        return Tiles(tile, overlap, batch, self.device, self.settings.num_labels)

    @torch.inference_mode()
    def _blended_rows(
        self, held: HeldRows, size: tuple[int, int], batch: int, start: int
    ) -> Iterator[tuple[int, np.ndarray]]:
        def tiles_at(corners: Corners, sides: tuple[int, int]) -> torch.Tensor:
            top, bottom = max(0, corners[0][0]), min(size[0], corners[-1][0] + sides[0])
            pixels = torch.from_numpy(held.between(top, bottom)[0]).to(self.device).permute(2, 0, 1)
            return self._tiles_at(pixels, [(y - top, x) for y, x in corners], sides)

        for top, rows in self._cut(batch).rows(size, tiles_at, start):
            yield top, rows.clamp_(0, 1).cpu().numpy()

    def _require_rows_alone(self, raster: Raster, scaling: IntensityScaling | None) -> None:
        """Refuse what needs more of the image than tiles. A fundus adapter changes nothing without a field of view."""
        settings, fundus = self.settings, self.fundus
        if settings.view != "tiles":
            raise DataError(
                "is too large for memory, and the adapter sees full images, resized to one tile: if the memory "
                f"suffices, raise {PIXELS_VARIABLE}"
            )
        flags = {"--scale 1": fundus.scale is None and fundus.diameter is not None,
                 "--no_match_colours": fundus.colours is not None, "--no_within_fov": fundus.within_fov}  # fmt: skip
        if any(flags.values()) and FieldOfView(raster.reduced(step_of(raster.size), scaling)).mask().all():
            flags = {}
        flags["--scale 1"] = flags.get("--scale 1") or fundus.scale not in (None, 1)
        flags["--test_time_scales 1"] = settings.test_time_scales != (1.0,)
        if any(flags.values()):
            needed = " ".join(flag for flag, is_needed in flags.items() if is_needed)
            raise DataError(
                "is too large for memory, and what the adapter or the settings ask for needs the whole image (a field "
                f"of view, a scale): {needed} does without; or, if the memory suffices, raise {PIXELS_VARIABLE}"
            )

    def probability(self, image: str | Path | Image.Image | np.ndarray, name: str | None = None) -> np.ndarray:
        """The probability of any class of `predictor(image)`, float32 (H, W)."""
        return self(image, name).probability

    def _from_network(self, image: np.ndarray, scale: float) -> np.ndarray:
        """uint8 (H, W, 3) -> float32 (K, H, W), calibrated. On a GPU, halve batches that do not fit."""
        batch = self.tile_batch or tiles_at_once(self.device, self.settings.image_size)
        while True:
            try:
                probabilities = self._uncalibrated(image, scale, batch)
                break
            except torch.OutOfMemoryError:
                if self.tile_batch is not None or batch == 1:
                    raise
                batch //= 2
        return self._calibrated(probabilities)

    def _calibrated(self, probabilities: np.ndarray) -> np.ndarray:
        """float32 (K, H, W); what is not a number is an error."""
        if share := np.isnan(probabilities).any(0).mean():
            hint = "" if self.dtype == torch.float32 else f" in {self.precision}: try dtype float32"
            raise FloatingPointError(f"the network gives not-a-number for {share:.1%} of the pixels{hint}")
        return self.settings.calibration(probabilities)

    @torch.inference_mode()
    def _uncalibrated(self, image: np.ndarray, scale: float, batch: int) -> np.ndarray:
        settings = self.settings
        pixels = torch.from_numpy(np.require(image, requirements="CW"))  # copied once; a tile is float32 in its turn
        pixels = (pixels.pin_memory() if self.device.type == "cuda" else pixels).to(self.device, non_blocking=True)
        pixels = pixels.permute(2, 0, 1)
        if settings.view == "tiles":
            scales = self.fundus.scales(scale) or settings.test_time_scales
            at_each = (self._in_tiles(pixels, scale * relative, batch) for relative in scales)
            probabilities = reduce(torch.Tensor.add_, at_each).div_(len(scales))
        else:
            tile, resized = settings.tile_size, self._normalise(pixels)[None]
            is_high = image.shape[0] * tile > _SECTION_PIXELS  # the width comes first, and would of all rows
            turned = resized.mT if is_high else resized
            resized = F.interpolate(turned, (tile, tile), mode="bilinear", align_corners=False, antialias=True)
            probabilities = self._tile_probabilities(resized.mT if is_high else resized, image.shape[:2])[0]
        return probabilities.clamp_(0, 1).cpu().numpy()

    def _normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 (..., 3, h, w) -> float32, to the bit as `data.windows.normalise`."""
        numbers = self.settings.image_mean, self.settings.image_std
        mean, std = (_a_channel(tuple(item), pixels.device) for item in numbers)
        pixels = pixels.to(torch.float32, memory_format=torch.contiguous_format)
        return pixels.div_(255).sub_(mean).div_(std)

    def _in_tiles(self, pixels: torch.Tensor, scale: float, batch: int) -> torch.Tensor:
        """uint8 (3, H, W) -> float32 (K, H, W)."""
        size, scaled = pixels.shape[1:], _scaled(pixels.shape[1:], scale)
        if scale > 1 and math.prod(scaled) > max_image_pixels():
            raise too_large(
                f"{scaled[1]:,} x {scaled[0]:,} pixels when it is enlarged {scale:.4g} times, as `scale`, "
                "`test_time_scales` or the adapter's `fov_diameter` says"
            )
        section = min(_SECTION_PIXELS // min(size), _SECTION_SIDE)
        if scaled != size and section < max(size):
            return self._in_sections(pixels, scale, batch, section)
        return self._at_size(pixels, scaled, batch)

    def _at_size(self, pixels: torch.Tensor, scaled: torch.Size, batch: int) -> torch.Tensor:
        size = pixels.shape[1:]
        if scaled != size:
            pixels = resize_antialiased(self._normalise(pixels)[None], scaled)[0]
        rows = self._cut(batch).rows(scaled, partial(self._tiles_at, pixels))
        whole = join_rows(scaled, self.settings.num_labels, self.device, rows)
        return resize_antialiased(whole[None], size)[0]

    def _in_sections(self, pixels: torch.Tensor, scale: float, batch: int, length: int) -> torch.Tensor:
        """As `_in_tiles`, in sections along the longer side, each with more than a tile of what surrounds it."""
        axis = 1 if pixels.shape[1] > pixels.shape[2] else 2
        whole, margin = pixels.shape[axis], math.ceil(1.5 * self.settings.tile_size / scale)
        parts = []
        for start in range(0, whole, length):
            first, last = max(0, start - margin), min(whole, start + length + margin)
            section = pixels.narrow(axis, first, last - first)
            seen = self._at_size(section, _scaled(section.shape[1:], scale), batch)
            parts.append(seen.narrow(axis, start - first, min(length, whole - start)))
        return torch.cat(parts, axis)

    def _tiles_at(self, pixels: torch.Tensor, corners: Corners, sides: tuple[int, int]) -> torch.Tensor:
        """Cut tiles; an image that is smaller is mirrored around itself. -> Their probabilities, (B, K, *sides)."""
        (down, across), (top, left) = sides, (max(0, -start) for start in corners[0])
        tiles = torch.stack([pixels[:, max(0, y) : y + down, max(0, x) : x + across] for y, x in corners])
        if tiles.dtype == torch.uint8:
            tiles = self._normalise(tiles)
        tiles = mirrored(mirrored(tiles, top, down).mT, left, across).mT
        below, beside = down - tiles.shape[2], across - tiles.shape[3]
        return self._tile_probabilities(F.pad(tiles, (0, beside, 0, below)) if below or beside else tiles)

    def _tile_probabilities(self, pixel_values: torch.Tensor, size: Sequence[int] | None = None) -> torch.Tensor:
        """(B, 3, T, T) -> (B, K, T, T), or of the size to which logits are resized; the mean over the mirrorings."""

        def predict(tiles: torch.Tensor, *mirrored: int) -> torch.Tensor:
            if mirrored:
                *others, axis = mirrored
                return (predict(tiles, *others) + predict(tiles.flip(axis), *others).flip(axis)) / 2
            logits = self._logits(tiles)
            if size is not None:
                logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
            return class_probabilities(logits, self.settings.exclusive)

        return predict(pixel_values, *((-1, -2) if self.settings.test_time_flips else ()))

    def _logits(self, pixel_values: torch.Tensor) -> torch.Tensor:
        own = next((tensor.dtype for tensor in self.model.parameters() if tensor.is_floating_point()), torch.float32)
        pixel_values = pixel_values.to(own).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits = self.model(pixel_values=pixel_values).logits.float()
        self.settings.check_classes(logits.shape[1])
        return logits


def _scaled(size: Sequence[int], scale: float) -> torch.Size:
    return torch.Size(max(1, round(side * scale)) for side in size)


@lru_cache(8)
def _a_channel(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """Numbers of the three channels on the device; a copy for each batch would wait for it."""
    return torch.tensor(values, device=device)[:, None, None]


@contextmanager
def _naming(name: str | Path) -> Iterator[None]:
    """Put the image's name before what is said of it."""
    try:
        yield
    except (DataError, FloatingPointError) as error:
        raise type(error)(f"{name}: {error}") from error
    except (MemoryError, RuntimeError) as error:
        words = ("allocate memory", "out of memory")  # of a CPU, of GPUs
        if not isinstance(error, MemoryError) and not any(text in str(error) for text in words):
            raise
        first_line = str(error).partition("\n")[0] or type(error).__name__
        raise MemoryError(f"{name}: there is not enough memory ({first_line:.200})") from error


def _picture_of(image: str | Path | Image.Image | np.ndarray, settings: AdapterSettings) -> Picture:
    if isinstance(image, (str, Path, Image.Image)):
        return read_picture(image, bands=settings.bands)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected an RGB array, uint8 (H, W, 3); got {image.dtype} {image.shape}")
    return Picture(image)
