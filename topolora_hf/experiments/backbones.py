"""How large a SAM has to be: the same adapter on bases of several sizes."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..options import option
from .arguments import StudyArguments
from .pictures import draw_points
from .study import Study, study_main

_BASES = ["tiny", "tiny-random", "vit-s-random", "vit-b-random"]


@dataclass(kw_only=True)
class BackbonesArguments(StudyArguments):
    """Train the full network on every base: accuracy, step time, memory, time a tile, size of the adapter's file."""

    base: str | None = option(None, "not for this study: give bases")
    bases: list[str] = option(_BASES, "SAMs on the Hub, directories, or embedded ones")
    dataset: str = option("drive", "a name, a folder, or a name that data_dirs gives")
    image_size: int = option(256, "pixels a side that every encoder sees, so that they see the same")
    output_dir: str = option("studies/backbones", "where runs, tables and pictures are written")

    def __post_init__(self):
        super().__post_init__()
        if self.base is not None:
            raise ValueError(f"this study compares bases: give --bases, not --base {self.base}")


def plan_backbones(args: BackbonesArguments) -> Study:
    """One run for each base and seed."""
    chains = []
    for base in args.bases:
        labels = {"dataset": args.dataset, "base": Path(base).name}
        settings = {"preset": "topolora", "base": base, "image_size": args.image_size}
        for seed in args.seeds:
            name = f"{args.dataset}/{labels['base']}/{seed}"
            chains.append([args.train_job(name, args.dataset, seed, labels, settings)])
    draw = partial(draw_points, panel=["dataset"], line="base")
    return Study("Backbones", chains, ["dataset", "base"], ["dataset", "base"], draw)


def backbones_main() -> None:
    """`recipes/backbones.py`."""
    study_main(BackbonesArguments, plan_backbones)
