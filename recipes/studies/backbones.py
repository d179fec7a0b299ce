"""Train the full network on bases of several sizes and families: a table of accuracy, time, memory and file size.

    python recipes/studies/backbones.py --data_root path/to/data --bases tiny facebook/sam-vit-base
    python recipes/studies/backbones.py --data_root path/to/data --image_size 448 --bases facebook/sam-vit-base \
        syscv-community/sam-hq-vit-base facebook/sam2.1-hiera-tiny facebook/sam2.1-hiera-base-plus facebook/sam3

A run that is done is not repeated, an interrupted one goes on. --dry_run lists them, --set NAME=VALUE changes settings.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from engine.arguments import StudyArguments
from engine.pictures import draw_points
from engine.study import Study, study_main
from topolora_hf.settings import option

_BASES = ["tiny", "tiny-random", "vit-s-random", "vit-b-random"]


@dataclass(kw_only=True)
class BackbonesArguments(StudyArguments):
    """Train the full network on every base: accuracy, step time, memory, time a tile, size of the adapter's file."""

    base: str | None = option(None, "not for this study: use bases")
    bases: list[str] = option(_BASES, "SAMs of any family on the Hub, directories, or embedded bases")
    dataset: str = option("drive", "a name, a folder, or a name that data_dirs gives")
    image_size: int = option(224, "pixels a side that every encoder sees; multiples of 224 suit every family")
    output_dir: str = option("studies/backbones", "where runs, tables and pictures are written")

    def __post_init__(self):
        super().__post_init__()
        if self.base is not None:
            raise ValueError(f"this study compares bases: give --bases, not --base {self.base}")


def plan_backbones(args: BackbonesArguments) -> Study:
    """Plan one run for each base and seed."""
    chains = []
    for base in args.bases:
        labels = {"dataset": args.dataset, "base": Path(base).name}
        settings = {"preset": "topolora", "base": base, "image_size": args.image_size}
        for seed in args.seeds:
            name = f"{args.dataset}/{labels['base']}/{seed}"
            chains.append([args.train_job(name, args.dataset, seed, labels, settings)])
    draw = partial(draw_points, panel=["dataset"], line="base")
    return Study("Backbones", chains, ["dataset", "base"], ["dataset", "base"], draw)


if __name__ == "__main__":
    study_main(BackbonesArguments, plan_backbones)
