"""Train on 1, 2, 5, 10 and 20 images, and write the table and the curve.

    python recipes/studies/few_labels.py --data_root path/to/data --detail_base path/to/network

A run that is done is not repeated, an interrupted one goes on. --dry_run lists them, --set NAME=VALUE changes settings.
"""

from dataclasses import dataclass, replace
from functools import partial

import pandas as pd

from engine.arguments import MethodStudyArguments
from engine.pictures import draw_curves
from engine.study import Study, study_main
from engine.tables import Table, matrix_table
from topolora_hf.adapter_format.names import TINY_RANDOM
from topolora_hf.settings import option

_METHODS = ("topolora", "detail_only", "random_base", "unet")
_PRETRAINED = ("topolora", "detail_only")  # these segment before any training


@dataclass(kw_only=True)
class FewLabelsArguments(MethodStudyArguments):
    """Train on a few images, drawn by the seed; a larger number adds images to those of a smaller one."""

    methods: list[str] = option(list(_METHODS), f"of {', '.join(_METHODS)}")
    dataset: str = option("drive", "a name, a folder, or a name that data_dirs gives")
    images: list[int] = option(
        [0, 1, 2, 5, 10, 20], "how many training images; 0 scores the bases as they come", at_least=0
    )
    validation_fraction: float = option(
        0.0,
        "share of the training images that is cut off before any are drawn; with few labels there are none to spare",
    )
    output_dir: str = option("studies/few_labels", "where runs, tables and pictures are written")

    def __post_init__(self):
        super().__post_init__()
        unknown = [method for method in self.methods if method not in _METHODS]
        if unknown:
            raise ValueError(f"methods must be of {', '.join(_METHODS)}; got {', '.join(unknown)}")


def plan_few_labels(args: FewLabelsArguments) -> Study:
    """Plan one run for each method, number of images and seed; without images, one for each pretrained base."""
    chains = []
    for method in args.methods:
        own = {"preset": "topolora", "base": TINY_RANDOM} if method == "random_base" else args.of_method(method)
        own = {**own, "validation_fraction": args.validation_fraction}
        for images in sorted(args.images):
            labels = {"dataset": args.dataset, "method": method, "images": images}
            name = f"{args.dataset}/{method}/{images}"
            if images:
                few = {**own, "train_images": images}
                chains += [[args.train_job(f"{name}/{seed}", args.dataset, seed, labels, few)] for seed in args.seeds]
            elif method in _PRETRAINED:
                chains.append([replace(args.train_job(name, args.dataset, 0, labels, own), command="score_base")])
    draw = partial(draw_curves, panel="dataset", x="images", line="method")
    return Study("Few labels", chains, ["dataset", "method", "images"], ["dataset", "method"], draw, _matrices)


def _matrices(summary: pd.DataFrame) -> list[Table]:
    return [matrix_table(summary, measure, ["dataset", "method"], "images") for measure in ("dice", "cldice")]


if __name__ == "__main__":
    study_main(FewLabelsArguments, plan_few_labels)
