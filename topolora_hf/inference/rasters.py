"""Masks of rasters that need not fit in memory: read, segmented and written by rows, and gone on with after a stop."""

import hashlib
import json
import logging
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..data.errors import DataError
from ..data.images.pictures import no_valid_pixel
from ..files import flush, output_folder, write_file
from ..geo.geotiff import write_geotiff
from ..geo.raster import Raster, opened_by_rows, picture_step
from .doubts import doubts_of_share
from .files import BY_ROWS, rows_folder, save_png
from .prediction import Prediction
from .predictor import Predictor

logger = logging.getLogger(__name__)

_ROWS = 128  # that are counted at once


def predict_raster(
    predictor: Predictor,
    image: str | Path,
    mask: str | Path,
    probability: str | Path | None = None,
    overlay: str | Path | None = None,
    progress: Callable[[int, int, int], None] = lambda first, done, height: None,
) -> tuple[str, ...]:
    """Segment an image file of any size, and write its mask as a GeoTIFF: at the image's place, if it has one.

    The mask is that of `predictor(image)`, to the bit. The memory that it takes grows with the width of the image, and
    not with its height. Finished rows lie in a hidden folder beside the mask until all are: stopped in whatever way,
    the same call goes on after them. The mask is written last, so a mask that is there is whole.

    Args:
        predictor: Its adapter must not need the whole image.
        image: What `opened_by_rows` opens.
        mask: A `.tif`: 0 and 255, or the label map of several classes; 127, of several 255, is no data.
        probability: A `.tif` of float32, a band a class; NaN is no data.
        overlay: A PNG, reduced to 2,000 pixels a side.
        progress: Called after each row of tiles with the first row of this run, the rows that are done, and all.

    Returns:
        Why the mask may be wrong, a sentence each.

    Raises:
        DataError: The image cannot be read, holds no valid pixel, or the settings need all of it at once.
        FloatingPointError: The network gives numbers that are not finite.
        OSError: A file cannot be written.
    """
    mask, settings = Path(mask), predictor.settings
    try:
        with opened_by_rows(image, settings.bands) as raster:
            raster.rows(0, 1)  # an error now rather than after a folder is made
            raster.scaling(settings.intensity)
            rows = FinishedRows(mask, raster, predictor, probability is not None)
            first = rows.done
            for top, part in predictor.by_rows(raster, first):
                rows.append(part)
                progress(first, top + len(part.image), raster.size[0])
            share = rows.foreground()
            if probability is not None:
                rows.write_probabilities(probability)
            if overlay is not None:
                save_png(reduced_overlay(raster, rows, predictor), overlay)
            rows.write_masks(mask)
            rows.remove()
    except (DataError, FloatingPointError) as error:
        text = str(error)
        raise type(error)(text if text.startswith(str(image)) else f"{image}: {text}") from error
    return doubts_of_share(settings, share)


class FinishedRows:
    """The rows of a mask, and of its probabilities, that are done: files that grow, in a folder of their own.

    The folder notes from which image, settings and weights they come. Rows from others are thrown away.

    Attributes:
        done: How many there are; the next one is where the predictor can start.
    """

    def __init__(self, mask: Path, raster: Raster, predictor: Predictor, has_probabilities: bool):
        self.size, self.settings, self._raster = raster.size, predictor.settings, raster
        self.folder = rows_folder(mask)
        self._masks, self._probabilities = self.folder / "masks", self.folder / "probabilities"
        self._has_probabilities = has_probabilities
        if not mask.parent.is_dir():
            output_folder(mask.parent)
        note, text = self.folder / "made_from.json", _made_from(raster, predictor, has_probabilities)
        if not note.is_file() or note.read_text(encoding="utf-8") != text:
            if note.is_file():
                logger.warning("%s: rows of another image, adapter or setting are thrown away", self.folder)
            self.remove()
            self.folder.mkdir()
            write_file(note, text.encode())
        there = min((file.stat().st_size // row if file.is_file() else 0) for file, row in self._files())
        starts = [*predictor.row_starts(self.size), self.size[0]]
        self.done = max(start for start in starts if start <= there)
        for file, row in self._files():  # the last write may have been cut off
            with open(file, "ab") as opened:
                opened.truncate(self.done * row)

    def _files(self) -> list[tuple[Path, int]]:
        """Each file, and the bytes of a row in it."""
        width, count = self.size[1], len(self.settings.labels)
        return [(self._masks, width), *[(self._probabilities, 4 * count * width)] * self._has_probabilities]

    def append(self, part: Prediction) -> None:
        """Add the rows that follow."""
        values = [part.mask_values]
        if self._has_probabilities:
            values.append(np.where(part.inside, part.probabilities, np.float32(np.nan)).swapaxes(0, 1))
        for (file, _), rows in zip(self._files(), values, strict=True):
            try:
                with open(file, "ab") as opened:
                    opened.write(np.ascontiguousarray(rows).data)
                flush(file)
            except OSError as error:
                raise OSError(error.errno, f"cannot keep finished rows ({error.strerror})", str(file)) from error

    @property
    def masks(self) -> np.ndarray:
        """uint8 (H, W), once all are done; on the disk."""
        return np.memmap(self._masks, np.uint8, "r", shape=self.size)

    @cached_property
    def _levels(self) -> np.ndarray:
        """How many pixels have each value, (256,), once all are done."""
        parts = (self.masks[top : top + _ROWS] for top in range(0, self.size[0], _ROWS))
        return sum(np.bincount(part.ravel(), minlength=256) for part in parts)

    @cached_property
    def _form(self) -> Prediction:
        """How the file of the masks looks."""
        return Prediction.without_pixels(self.settings)

    def foreground(self) -> float:
        """The share of foreground, once all are done. DataError: no pixel has data."""
        count, no_data = self.masks.size, self._levels[self._form.nodata]
        if no_data == count:
            self.remove()
            raise no_valid_pixel()
        return float(count - self._levels[0] - no_data) / count

    def write_masks(self, path: Path) -> None:
        """Write them as a GeoTIFF."""
        nodata = self._form.nodata if self._levels[self._form.nodata] else None
        look = {"nodata": nodata, "colours": self._form.palette, "tags": BY_ROWS}
        write_geotiff(path, self.masks, self._raster.place, **look)

    def write_probabilities(self, path: str | Path) -> None:
        """Write the probabilities as a GeoTIFF, a band a class."""
        shape = (self.size[0], len(self.settings.labels), self.size[1])
        values = np.memmap(self._probabilities, np.float32, "r", shape=shape).swapaxes(0, 1)
        write_geotiff(path, values, self._raster.place, nodata=math.nan, names=self.settings.labels)

    def remove(self) -> None:
        """Throw all away."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _made_from(raster: Raster, predictor: Predictor, has_probabilities: bool) -> str:
    """What rows depend on, as text."""
    file, weights = raster.path.stat(), hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(predictor.model.state_dict().items()):
        weights.update(name.encode())
        weights.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    values = {
        "image": [str(raster.path.resolve()), file.st_size, file.st_mtime_ns, *raster.size],
        "settings": asdict(predictor.settings),
        "overlap": predictor.overlap,
        "precision": [predictor.precision, predictor.device.type],
        "weights": weights.hexdigest(),
        "has_probabilities": has_probabilities,
    }
    return json.dumps(values, indent=2) + "\n"


def reduced_overlay(raster: Raster, rows: FinishedRows, predictor: Predictor) -> Image.Image:
    """Draw the masks over a smaller image, of at most 2,000 pixels a side. Any pixel of a mask marks its place."""
    from ..pictures.overlay import class_overlay

    settings, labels, (height, width) = predictor.settings, rows.masks, raster.size
    step = picture_step(raster.size)
    columns = np.arange(0, width, step)
    of_class = Prediction.without_pixels(settings).values_of_classes.values()
    image = raster.reduced(step, raster.scaling(settings.intensity))
    masks = np.zeros((len(of_class), *image.shape[:2]), bool)
    for place, top in enumerate(range(0, height, step)):
        part = np.asarray(labels[top : top + step])
        for mask, own in zip(masks, of_class, strict=True):
            mask[place] = np.logical_or.reduceat(np.isin(part, own).any(axis=0), columns)
    return class_overlay(image, masks, settings.labels)
