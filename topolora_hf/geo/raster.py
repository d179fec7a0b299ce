"""An image file that is read by rows: as `read_picture` reads it whole, and of any size."""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..data.errors import DataError
from ..data.images import tiffs
from ..data.images.containers import guarded, interpreted
from ..data.images.contents import Contents
from ..data.images.limits import max_image_pixels, too_large
from ..data.images.pictures import Picture, picture_of
from ..data.intensity import IntensityScaling, fit_intensity_scaling
from ..data.place import Place, opened_raster, place_of

if TYPE_CHECKING:
    import tifffile
    from rasterio import DatasetReader

_PART_PIXELS = 2**24  # that are looked at at once
_PICTURE_SIDE = 2000  # of a picture of a raster, at most
_WIDEST = 1024  # rows that must fit in memory beside all else


def picture_step(size: tuple[int, int]) -> int:
    """Every how manieth row and column a picture of a raster of that size shows."""
    return math.ceil(max(size) / _PICTURE_SIDE)


@dataclass
class Raster:
    """An open image file. Rows are read when they are asked for, best from the first to the last."""

    path: Path
    dataset: "DatasetReader"
    page: "tifffile.TiffPage | None"  # of a TIFF
    bands: Sequence[int] | None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.dataset.shape

    @property
    def place(self) -> Place | None:
        """Where on the map it lies."""
        return place_of(self.dataset)

    def rows(self, top: int, bottom: int) -> Picture:
        """Read the rows from `top` to before `bottom`. A part that cannot be read is a DataError."""
        name = f"{self.path}, rows {top:,} to {bottom - 1:,}"
        return guarded(lambda _: picture_of(interpreted(self._contents(top, bottom), self.bands), str(self.path)), name)

    def levels(self, top: int, bottom: int) -> np.ndarray:
        """Read the first band as it is stored, (h, W), 0 where there is no data: of a mask or a label map."""

        def read(_) -> np.ndarray:
            window = ((top, bottom), (0, self.size[1]))
            return self.dataset.read(1, window=window) * (self.dataset.read_masks(1, window=window) > 0)

        return guarded(read, f"{self.path}, rows {top:,} to {bottom - 1:,}")

    def scaling(self, own: IntensityScaling | None) -> IntensityScaling | None:
        """How its values become 8 bits: by an adapter's own scaling, or as the whole image's percentiles say.

        The second reads the image twice, by rows. None: it has 8 bits, and they stay.
        """
        return own if own or not self.rows(0, 1).needs(None) else self._own_scaling

    @cached_property
    def _own_scaling(self) -> IntensityScaling:
        return fit_intensity_scaling([lambda: (part.usable for part in self._parts())])

    def reduced(self, step: int, scaling: IntensityScaling | None) -> np.ndarray:
        """Read every so manieth row and column, as uint8 (h, w, 3)."""
        held = HeldRows(self, scaling)
        return np.concatenate([held.between(top, top + 1)[0][:, ::step] for top in range(0, self.size[0], step)])

    def _parts(self) -> Iterator[Picture]:
        height, width = self.size
        step = max(1, _PART_PIXELS // width)
        for top in range(0, height, step):
            yield self.rows(top, min(height, top + step))

    def _contents(self, top: int, bottom: int) -> Contents:
        from rasterio.enums import ColorInterp, MaskFlags

        window, dataset = ((top, bottom), (0, self.size[1])), self.dataset
        numbers = np.moveaxis(dataset.read(window=window), 0, 2)
        if self.page is not None and self.page.photometric != tiffs.PALETTE:
            contents = tiffs.contents_of(numbers, self.page)
        else:
            palette, has_alpha = None, dataset.colorinterp[-1] == ColorInterp.alpha
            if dataset.colorinterp[0] == ColorInterp.palette:
                palette = np.array([colour[:3] for _, colour in sorted(dataset.colormap(1).items())], np.uint8)
            values = numbers[..., 0] if numbers.shape[2] == 1 else numbers
            alpha, colours = (numbers[..., -1], dataset.count - 1) if has_alpha else (None, None)
            contents = Contents(values, palette, alpha, nodata=dataset.nodata, colours=colours)
        flags = dataset.mask_flag_enums[0]
        if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
            contents = replace(contents, valid=dataset.read_masks(1, window=window) > 0)
        return contents


class HeldRows:
    """Rows of a raster as 8-bit RGB, each read once, from the first to the last. Those above the last look are let go.

    Args:
        raster: It.
        scaling: Of its values; None: it has 8 bits.
    """

    def __init__(self, raster: Raster, scaling: IntensityScaling | None):
        self.scaling, self._raster, self._top = scaling, raster, 0
        self._pixels = np.empty((0, raster.size[1], 3), np.uint8)
        self._valid = np.empty((0, raster.size[1]), bool)

    def between(self, top: int, bottom: int) -> tuple[np.ndarray, np.ndarray]:
        """Look at rows: uint8 (h, W, 3), and bool (h, W), where there is data."""
        held = self._top + len(self._pixels)
        if held <= top:
            self._top = held = top
            self._pixels, self._valid = self._pixels[:0], self._valid[:0]
        if held < bottom:
            picture = self._raster.rows(held, bottom)
            pixels = picture.scaled(self.scaling) if picture.needs(self.scaling) else picture.values
            valid = np.ones(pixels.shape[:2], bool) if picture.valid is None else picture.valid
            gone = top - self._top
            self._pixels = np.concatenate([self._pixels[gone:], pixels])
            self._valid, self._top = np.concatenate([self._valid[gone:], valid]), top
        at = slice(top - self._top, bottom - self._top)
        return self._pixels[at], self._valid[at]


@contextmanager
def opened_by_rows(path: str | Path, bands: Sequence[int] | None = None) -> Iterator[Raster]:
    """Open an image file to read it by rows. Its size may be more than `max_image_pixels`.

    Args:
        path: A TIFF, also tiled, compressed, with masks and overviews; or another file that GDAL reads.
        bands: Numbers of the one or three bands to take, from 1.

    Raises:
        DataError: rasterio is not installed, the file cannot be opened, is stored turned, or has absurdly long rows.
    """
    path = Path(path)
    with ExitStack() as stack:
        dataset = stack.enter_context(opened_raster(path))
        page = None
        if dataset.driver in ("GTiff", "COG"):
            page = stack.enter_context(tiffs.opened_page(path))
            orientation = tiffs.orientation_of(page)
        else:
            orientation = int(dataset.tags().get("EXIF_Orientation", 1))
        if orientation != 1:
            raise DataError(
                f"{path}: is stored turned (orientation {orientation}), and too large to be turned: save it"
            )
        if dataset.width * _WIDEST > max(max_image_pixels(), 2**30):
            raise DataError(f"{path}: {too_large(f'rows of {dataset.width:,} pixels')}")
        yield Raster(path, dataset, page, bands)
