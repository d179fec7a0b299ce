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
# Wide enough for any screen; the files keep the image's own size.
_LONGEST_SIDE = 1600


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
        """Run the network over an image file.

        Raises:
            AdapterMismatchError, OSError, ValueError: See `AdapterShelf.predict`.
        """
        return cls(shelf.predict(adapter, image), Path(image).stem or "image")

    def with_threshold(self, threshold: float) -> "Look":
        """The same image at another threshold, with the same folder.

        Raises:
            ValueError: The threshold is not in [0, 1].
        """
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {threshold}")
        if threshold == self.prediction.threshold:
            return self
        return replace(self, prediction=replace(self.prediction, threshold=threshold))

    def picture(self, view: str) -> Image.Image:
        """Draw the mask or the centreline over the image, or the probability, at most 1600 pixels a side.

        Raises:
            ValueError: The view is not one of `VIEWS`.
        """
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
        height, width = mask.shape
        across = "none" if math.isnan(line.mean_width) else f"{line.mean_width:.1f} px"
        return [
            ("Image", f"{width} x {height} px"),
            ("Foreground", f"{mask.mean():.2%}"),
            ("Centreline length", f"{line.length:,.0f} px"),
            ("Branch points", f"{line.branch_points:,}"),
            ("End points", f"{line.end_points:,}"),
            ("Mean width", across),
        ]

    def files(self) -> list[str]:
        """Write mask, probability, overlay and centreline, named as by `topolora predict`; return the paths."""
        folder = Path(self._folder.name)
        mask, probability, overlay, numbers = (
            folder / f"{self.stem}_{name}" for name in ("mask.png", "probability.png", "overlay.png", "centreline.json")
        )
        self.prediction.save_mask(mask)
        if not probability.exists():  # no threshold changes it
            self.prediction.save_probability(probability)
        self.prediction.save_overlay(overlay)
        self.prediction.centreline.save(numbers)
        return [str(file) for file in (mask, probability, overlay, numbers.with_suffix(".png"), numbers)]
