"""What a visitor looks at: the probability of one image, and its mask at a threshold."""

import math
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from ..inference.prediction import Prediction

if TYPE_CHECKING:
    from .shelf import AdapterShelf

VIEWS = ("mask", "centreline", "probability")
_LONGEST_SIDE = 1600  # wide enough for any screen; the files keep the image's own size


@dataclass
class Look:
    """An image that the network has seen. Moving the threshold does not run it again.

    Attributes:
        prediction: Of the image, at the threshold that was last asked for.
        stem: First part of the names of its files.
    """

    prediction: Prediction
    stem: str
    _folder: tempfile.TemporaryDirectory = field(
        default_factory=lambda: tempfile.TemporaryDirectory(prefix="topolora-", ignore_cleanup_errors=True)
    )

    @classmethod
    def at(cls, shelf: "AdapterShelf", adapter: str, image: str | Path) -> "Look":
        """Run the network over an image file, as `AdapterShelf.predict`."""
        return cls(shelf.predict(adapter, image), Path(image).stem or "image")

    def with_threshold(self, threshold: float) -> "Look":
        """The same image at another threshold in [0, 1], with the same folder."""
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {threshold}")
        thresholds = (threshold,) * len(self.prediction.labels)
        if thresholds == self.prediction.thresholds:
            return self
        return replace(self, prediction=replace(self.prediction, thresholds=thresholds))

    def picture(self, view: str) -> Image.Image:
        """Draw the mask or the centreline over the image, or the probability, at most 1600 pixels a side."""
        if view not in VIEWS:
            raise ValueError(f"view must be one of {', '.join(VIEWS)}; got {view!r}")
        if view == "probability":
            picture = Image.fromarray((self.prediction.probability * 255).round().astype("uint8"))
        else:
            picture = self.prediction.overlay(centreline=view == "centreline")
        picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
        return picture

    def numbers(self) -> list[tuple[str, str]]:
        """Names of what was measured, and values with their units."""
        mask, line = self.prediction.mask, self.prediction.centreline
        return [
            ("Image", f"{mask.shape[1]} x {mask.shape[0]} px"),
            ("Foreground", f"{mask.mean():.2%}"),
            ("Centreline length", f"{line.length:,.0f} px"),
            ("Branch points", f"{line.branch_points:,}"),
            ("End points", f"{line.end_points:,}"),
            ("Mean width", "none" if math.isnan(line.mean_width) else f"{line.mean_width:.1f} px"),
        ]

    def files(self) -> list[str]:
        """Write mask, probability, overlay and centreline, named as by `topolora predict`; return the paths."""
        names = ("mask.png", "probability.png", "overlay.png", "centreline.png", "centreline.json")
        files = [Path(self._folder.name, f"{self.stem}_{name}") for name in names]
        mask, probability, overlay, _, numbers = files
        self.prediction.save_mask(mask)
        if not probability.exists():  # no threshold changes it
            self.prediction.save_probability(probability)
        self.prediction.save_overlay(overlay)
        self.prediction.centreline.save(numbers)
        return list(map(str, files))
