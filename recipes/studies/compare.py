"""Compare methods, each on every data set with every seed, and write the table.

    python recipes/studies/compare.py --data_root path/to/data --jobs 2

A run that is done is not repeated, an interrupted one goes on. --dry_run lists them, --set NAME=VALUE changes settings.
"""

from dataclasses import dataclass
from functools import partial

from engine.anchors import AnchoredStudyArguments
from engine.arguments import METHODS
from engine.pictures import draw_points
from engine.study import Study, study_main
from topolora_hf.settings import option


@dataclass(kw_only=True)
class CompareArguments(AnchoredStudyArguments):
    """Train every method on every data set with every seed."""

    methods: list[str] = option(
        ["topolora", "detail_only", "paper", "unet", "deeplabv3plus", "segformer", "mask2former"],
        f"of {', '.join(METHODS)}",
    )
    datasets: list[str] = option(["drive", "stare", "chase_db1"], "names, folders, or names that data_dirs gives")
    output_dir: str = option("studies/compare", "where runs, tables and pictures are written")


def plan_compare(args: CompareArguments) -> Study:
    """Plan one run for each data set, method and seed, and one for each data set and anchor."""
    chains = [
        [args.train_job(f"{dataset}/{method}/{seed}", dataset, seed, labels, args.of_method(method))]
        for dataset in args.datasets
        for method in args.methods
        for labels in [{"dataset": dataset, "method": method}]
        for seed in args.seeds
    ]
    chains += [
        [args.anchor_job(name, dataset, "test", {"dataset": dataset})]
        for dataset in args.datasets
        for name in args.maps
    ]
    draw = partial(draw_points, panel=["dataset"], line="method")
    return Study("Comparison of methods", chains, ["dataset", "method"], ["dataset", "method"], draw)


if __name__ == "__main__":
    study_main(CompareArguments, plan_compare)
