"""The cards in `hub_cards/`: for each named data set what an adapter trained on it by default would publish."""

import sys
from dataclasses import asdict
from pathlib import Path

from huggingface_hub import ModelCard

from ..data.catalog import CATALOG, DatasetSpec
from ..training.arguments import TrainArguments
from .model_card import render_model_card

NAMED = tuple(name for name in CATALOG if name != "folder")
DIRECTORY = "hub_cards"


def render_named_card(name: str) -> ModelCard:
    """The card of `recipes/train.py --dataset NAME` before anything is scored.

    Raises:
        KeyError: the catalogue has no such data set.

    >>> render_named_card("drive").data.datasets
    ['Zomba/DRIVE-digital-retinal-images-for-vessel-extraction']
    """
    spec: DatasetSpec = CATALOG[name]
    return render_model_card(
        asdict(TrainArguments(dataset=name)) | {"view": spec.view, "tile_size": spec.tile_size}, metrics={}
    )


def write_named_cards(directory: str | Path = DIRECTORY) -> list[Path]:
    """Writes `NAME.md` for every named data set into a folder that exists; returns the files."""
    files = [Path(directory) / f"{name}.md" for name in NAMED]
    for file in files:
        render_named_card(file.stem).save(file)
    return files


def cards_main() -> None:
    """`recipes/cards.py`."""
    try:
        print(*write_named_cards(*sys.argv[1:2]), sep="\n")
    except OSError as error:
        sys.exit(f"error: {error}")
