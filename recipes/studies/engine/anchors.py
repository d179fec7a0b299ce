"""Anchors: methods of other programs, scored by the same evaluation from the maps that they wrote."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from engine.arguments import METHODS, MethodStudyArguments, inside, parse_pairs
from engine.jobs import Job
from engine.tables import NOTHING
from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.commands.score import ScoreArguments
from topolora_hf.data.errors import DataError
from topolora_hf.inference.prediction import Prediction
from topolora_hf.settings import option


@dataclass(kw_only=True)
class AnchoredStudyArguments(MethodStudyArguments):
    """A list of runs that compare methods, among them those of other programs."""

    anchors: list[str] | None = option(
        None,
        "methods of other programs, as NAME=FOLDER: FOLDER/DATASET/ID.png is the probability of the structure in an "
        "image that is scored, 8 bits (255 is 1), of its size",
    )

    def __post_init__(self):
        super().__post_init__()
        self.maps = parse_pairs("anchors", self.anchors or [])
        if taken := sorted(self.maps.keys() & METHODS.keys()):
            raise ValueError(f"anchors may not be called {', '.join(taken)}: methods of ours have these names")

    def anchor_job(self, method: str, dataset: str, part: str, labels: Mapping) -> Job:
        """Plan the scoring of an anchor's maps of a data set."""
        name = f"{method}/on-{inside(dataset)}"
        arguments = AnchorArguments(
            **self.of_scoring(dataset),
            adapter=str(Path(self.maps[method], inside(dataset))),
            part=part,
            output_dir=str(Path(self.output_dir, name)),
        )
        return Job(name, "score_anchor", arguments, {"method": method, **labels, "seed": NOTHING})


@dataclass(kw_only=True)
class AnchorArguments(ScoreArguments):
    """Score a folder of maps, `adapter`, on a data set."""

    def build_predictor(self, network: None = None) -> "Maps":
        """Take the maps for what a predictor would find."""
        return Maps(Path(self.adapter))


class Maps:
    """Stands in for a `Predictor`: gives what another program found in an image."""

    precision = "8 bits"

    def __init__(self, folder: Path):
        self.folder = folder
        self.settings = AdapterSettings(base="", preset=folder.parent.name)

    def __call__(self, image: np.ndarray, name: str) -> Prediction:
        """Read the map of an image, uint8 (H, W, 3), which the data set calls `name`.

        Raises:
            DataError: There is none, or it is no map of this image.
        """
        file = self.folder / f"{name}.png"
        if not file.is_file():
            raise DataError(f"there is no map {file}: each image that is scored needs one")
        with Image.open(file) as picture:
            mode, values = picture.mode, np.asarray(picture.convert("L"))
        if mode not in ("L", "1"):
            raise DataError(f"{file} has mode {mode}: a map is grey, of 8 bits or 1 bit")
        if values.shape != image.shape[:2]:
            raise DataError(
                f"{file} is {values.shape[1]} x {values.shape[0]}, its image {image.shape[1]} x {image.shape[0]}"
            )
        if values.max() == 1:
            raise DataError(f"{file} holds 0 and 1: write a mask as 0 and 255")
        return Prediction(image, values[None] / np.float32(255), self.settings.thresholds, self.settings.labels)
