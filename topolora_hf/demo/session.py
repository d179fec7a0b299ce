"""What a visitor looks at: the probability of one image, and its mask at a threshold."""

import math
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from ..inference.measures import save_graph
from ..inference.prediction import Prediction
from ..pictures.classes import probability_picture

if TYPE_CHECKING:
    from .shelf import AdapterShelf

VIEWS = ("mask", "centreline", "probability", "graph", "histogram")
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
    _probabilities: list[Path] = field(default_factory=list)  # their files

    @classmethod
    def at(cls, shelf: "AdapterShelf", adapter: str, image: str | Path) -> "Look":
        """Run the network over an image file, as `AdapterShelf.predict`."""
        return cls(shelf.predict(adapter, image), Path(image).stem or "image")

    def with_threshold(self, threshold: float) -> "Look":
        """The same image at another threshold in [0, 1], that of all its classes, with the same folder."""
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {threshold}")
        thresholds = (threshold,) * len(self.prediction.labels)
        if thresholds == self.prediction.thresholds:
            return self
        return replace(self, prediction=replace(self.prediction, thresholds=thresholds))

    def picture(self, view: str) -> Image.Image:
        """Draw one of `VIEWS`, at most 1600 pixels a side: masks, centrelines or the graph lie over the image."""
        if view not in VIEWS:
            raise ValueError(f"view must be one of {', '.join(VIEWS)}; got {view!r}")
        if view == "probability":
            picture = probability_picture(self.prediction.probabilities, self.prediction.labels)
        elif view in ("graph", "histogram"):
            self._save_graph()
            picture = Image.open(Path(self._folder.name, f"{self.stem}_{view}.png")).convert("RGB")
        else:
            picture = self.prediction.overlay(centreline=view == "centreline")
        picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
        return picture

    def numbers(self) -> list[tuple[str, ...]]:
        """Names of what was measured, and values with their units, one a class."""
        seen = self.prediction
        lines = seen.totals.values()
        size = f"{seen.masks.shape[2]} x {seen.masks.shape[1]} px"
        return [
            ("Image", *[size] * len(seen.labels)),
            ("Foreground", *(f"{mask.mean():.2%}" for mask in seen.masks)),
            ("Centreline length", *(f"{line['length']:,.0f} px" for line in lines)),
            ("Branch points", *(f"{line['branch_points']:,}" for line in lines)),
            ("End points", *(f"{line['end_points']:,}" for line in lines)),
            ("Mean width", *(_in_pixels(line["mean_width"]) for line in lines)),
            *([("Threshold", *(f"{threshold:.3g}" for threshold in seen.thresholds))] if len(seen.labels) > 1 else []),
        ]

    def _save_graph(self) -> list[Path]:
        folder = Path(self._folder.name)
        return save_graph(self.prediction.graph(), folder, self.stem, self.prediction.image, self.prediction.place)

    def files(self) -> list[str]:
        """Write what `topolora predict` and `topolora measure` write, named as by them; return the paths."""
        seen, start = self.prediction, Path(self._folder.name, self.stem)
        names = ("mask.png", "overlay.png", "centreline.png", "centreline.json", "classes.json")
        mask, overlay, skeleton, numbers, classes = (Path(f"{start}_{name}") for name in names)
        seen.save_mask(mask)
        if not self._probabilities:  # no threshold changes them
            self._probabilities.extend(seen.save_probability(Path(f"{start}_probability.png")))
        seen.save_overlay(overlay)
        seen.save_centreline(numbers)
        files = [mask, *self._probabilities, overlay, skeleton, numbers, *self._save_graph()]
        if len(seen.labels) > 1:
            seen.save_classes(classes)
            files.append(classes)
        return list(map(str, files))


def _in_pixels(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.1f} px"
