"""What was seen in one image, and the files of it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..data.place import Place
from ..files import write_json
from ..geo.geotiff import write_geotiff
from ..graphs import centreline_graph, graph_totals, joined
from ..metrics.classes import any_class, class_masks, label_map, label_values
from .files import file_a_class, require_png, save_png

if TYPE_CHECKING:
    import networkx

    from ..adapter_format.settings import AdapterSettings

_PIXELS_A_LINE = 1000  # of the longer side, for each pixel that a centreline is drawn wider to either side


@dataclass
class Prediction:
    """What was seen in one image.

    Attributes:
        image: uint8 (H, W, 3), the image as it was read.
        probabilities: float32 (K, H, W) in [0, 1], one map a class.
        thresholds: The probability from which a pixel is foreground, one a class.
        labels: Names of the K classes.
        exclusive: No pixel belongs to two classes.
        warnings: Why the mask may be wrong, a sentence each.
        inside: bool (H, W), False where nothing is ever foreground; None: it may be everywhere.
        place: Where on the map it lies; None: nothing says so.
        is_finer: It was averaged over the larger scales of photographs much finer than the training images.
    """

    __module__ = "topolora_hf"  # wherever the file lies

    image: np.ndarray
    probabilities: np.ndarray
    thresholds: tuple[float, ...]
    labels: tuple[str, ...] = ("foreground",)
    exclusive: bool = False
    warnings: tuple[str, ...] = ()
    inside: np.ndarray | None = None
    place: Place | None = None
    is_finer: bool = False

    def __post_init__(self):
        if not len(self.probabilities) == len(self.thresholds) == len(self.labels):
            raise ValueError(
                f"probabilities of shape {self.probabilities.shape} and {len(self.thresholds)} thresholds do not fit "
                f"{len(self.labels)} labels: expected (K, H, W) and K of each"
            )

    @classmethod
    def without_pixels(cls, settings: "AdapterSettings") -> "Prediction":
        """Make one that only says how files of an adapter's classes look."""
        nothing = np.zeros((len(settings.labels), 0, 0), np.float32)
        return cls(np.zeros((0, 0, 3), np.uint8), nothing, settings.thresholds, settings.labels, settings.exclusive)

    @cached_property
    def masks(self) -> np.ndarray:
        """bool (K, H, W), one mask a class, empty outside `inside`; of exclusive ones the likeliest (`class_masks`)."""
        masks = class_masks(self.probabilities, self.thresholds, self.exclusive)
        return masks if self.inside is None else masks & self.inside

    @property
    def probability(self) -> np.ndarray:
        """float32 (H, W), of any class: the sum over exclusive ones, the largest of others."""
        return any_class(self.probabilities, self.exclusive)

    @property
    def mask(self) -> np.ndarray:
        """bool (H, W), any class."""
        return self.masks.any(0)

    @property
    def label_map(self) -> np.ndarray:
        """uint8 (H, W): 0 is background, k the k-th class; sets of overlapping classes have values after those."""
        return label_map(self.masks, label_values(self.labels, self.exclusive))

    @property
    def values_of_classes(self) -> dict[str, list[int]]:
        """The values of each class in the file of the mask."""
        if len(self.labels) == 1:
            return {self.labels[0]: [255]}
        values = label_values(self.labels, self.exclusive)
        return {label: [value for classes, value in values.items() if place in classes]
                for place, label in enumerate(self.labels)}  # fmt: skip

    def graph(self, prune: bool = True) -> "networkx.MultiGraph":
        """The graph of the mask's centrelines, for thin structures: see `topolora_hf.graphs.centreline_graph`.

        Of several classes, each has its own pieces of it, and nodes and edges say which `class` they are of.
        """
        graphs = self._graphs if prune else self._graphs_of_classes(prune)
        return joined(graphs) if len(graphs) > 1 else graphs[self.labels[0]].copy()

    @cached_property
    def _graphs(self) -> "dict[str, networkx.MultiGraph]":
        return self._graphs_of_classes()

    def _graphs_of_classes(self, prune: bool = True) -> "dict[str, networkx.MultiGraph]":
        return {label: centreline_graph(mask, prune) for label, mask in zip(self.labels, self.masks, strict=True)}

    @property
    def totals(self) -> dict[str, dict[str, float]]:
        """Of each class, by its name, what its graph comes to, in pixels: `graph_totals` over the field of view."""
        area = None if self.inside is None else int(self.inside.sum())
        return {label: graph_totals(graph, area) for label, graph in self._graphs.items()}

    def overlay(self, centreline: bool = False) -> Image.Image:
        """Draw the masks over the image; or, for thin structures, their centrelines, wide enough to be seen.

        Several classes have a colour each, and a legend below the image.
        """
        from ..pictures.overlay import class_overlay

        if not centreline:
            return class_overlay(self.image, self.masks, self.labels)
        width = 1 + 2 * round(max(self.mask.shape) / _PIXELS_A_LINE)
        return class_overlay(self.image, self._lines(width), self.labels, opacity=1)

    def _lines(self, width: int = 1) -> np.ndarray:
        from ..pictures.graphs import draw_lines

        return np.stack([draw_lines(graph, width) for graph in self._graphs.values()])

    def save_mask(self, path: str | Path) -> None:
        """Write an 8-bit PNG of the image's own size: 0 and 255; of several classes their label map, in colours.

        Of a georeferenced image, write beside it a `.tif`, which lies at the same place. There, 127 is no data; of
        several classes 255.

        Raises:
            ValueError: The path does not end in .png, or there are more classes than a label map holds, see
                `label_values`.
        """
        require_png(path)
        has_holes = self.inside is not None and not self.inside.all()
        if self.place:
            look = {"nodata": self.nodata if has_holes else None, "colours": self.palette}
            write_geotiff(Path(path).with_suffix(".tif"), self.mask_values, self.place, **look)
        save_png(self._of_masks(self.masks), path, int(self.inside.sum()) if has_holes else None)

    @property
    def nodata(self) -> int:
        """What stands in the `.tif` of a mask where there is no data."""
        return 127 if len(self.labels) == 1 else 255

    @property
    def mask_values(self) -> np.ndarray:
        """uint8 (H, W), what a mask's `.tif` holds: 0 and 255, of several classes the label map, or `nodata`."""
        values = np.asarray(self._of_masks(self.masks))
        return values if self.inside is None else np.where(self.inside, values, np.uint8(self.nodata))

    def save_class_masks(self, path: str | Path) -> list[Path]:
        """Write the mask of each class as a PNG of 0 and 255, `NAME_mask_artery.png` for `NAME_mask.png`."""
        files = self._file_a_class(path)
        for file, mask in zip(files, self.masks, strict=True):
            save_png(Image.fromarray(mask.astype(np.uint8) * np.uint8(255)), file)
        return files

    def save_classes(self, path: str | Path) -> None:
        """Write a JSON file that says which values of a label map are of each class; `--classes` reads it."""
        write_json(Path(path), {**self.values_of_classes, "exclusive": self.exclusive})

    def save_probability(self, path: str | Path) -> list[Path]:
        """Write a 16-bit grey PNG, 0 to 65535 for 0 to 1; of several classes one a class, `NAME_artery.png`.

        Of a georeferenced image, write beside it a `.tif` of float32, a band a class, where NaN is no data.

        Raises:
            ValueError: The path does not end in .png.
        """
        files = [Path(path)] if len(self.labels) == 1 else self._file_a_class(path)
        for file, probability in zip(files, self.probabilities, strict=True):
            save_png(Image.fromarray((probability * 65535).round().astype(np.uint16)), file)
        if self.place:
            values = np.where(True if self.inside is None else self.inside, self.probabilities, np.float32(np.nan))
            files.append(Path(path).with_suffix(".tif"))
            write_geotiff(files[-1], values, self.place, nodata=np.nan, names=self.labels)
        return files

    def save_centreline(self, path: str | Path) -> None:
        """Write the totals of the centrelines as JSON and, beside it, a PNG of the lines; of several by class.

        Raises:
            ValueError: The path ends in .png, which is the other file.
        """
        if Path(path).suffix.lower() == ".png":
            raise ValueError(f"{path}: the totals are JSON, and the lines a PNG beside it: give a name in .json")
        save_png(self._of_masks(self._lines()), Path(path).with_suffix(".png"))
        totals = self.totals
        write_json(Path(path), totals[self.labels[0]] if len(totals) == 1 else totals)

    def save_overlay(self, path: str | Path, centreline: bool = False) -> None:
        """Write the overlay as a PNG."""
        save_png(self.overlay(centreline), path)

    def _of_masks(self, masks: np.ndarray) -> Image.Image:
        """0 and 255 of one mask, the label map of several with its palette."""
        if len(masks) == 1:
            return Image.fromarray(masks[0].astype(np.uint8) * np.uint8(255))
        picture = Image.fromarray(label_map(masks, label_values(self.labels, self.exclusive)))
        colours = self.palette
        picture.putpalette([channel for value in range(max(colours) + 1) for channel in colours.get(value, (0, 0, 0))])
        return picture

    @property
    def palette(self) -> dict[int, tuple[int, int, int]] | None:
        """The colour of each value of the label map; None with one class."""
        from ..pictures.classes import SEVERAL, class_colours

        if len(self.labels) == 1:
            return None
        colours = class_colours(len(self.labels))
        values = label_values(self.labels, self.exclusive)
        return {value: colours[classes[0]] if len(classes) == 1 else SEVERAL for classes, value in values.items()}

    def _file_a_class(self, path: str | Path) -> list[Path]:
        return file_a_class(path, self.labels)
