"""Our presets against specialists trained from scratch, on the same data by the same evaluation."""

from dataclasses import dataclass
from functools import partial

from ..options import option
from .arguments import METHODS, MethodStudyArguments
from .pictures import draw_points
from .study import Study, study_main


@dataclass(kw_only=True)
class CompareArguments(MethodStudyArguments):
    """Train every method on every data set with every seed."""

    methods: list[str] = option(
        ["topolora", "detail_only", "no_detail", "unet", "deeplabv3plus", "segformer", "mask2former"],
        f"of {', '.join(METHODS)}",
    )
    datasets: list[str] = option(["drive", "stare", "chase_db1"], "names, folders, or names that data_dirs gives")
    output_dir: str = option("studies/compare", "where runs, tables and pictures are written")


def plan_compare(args: CompareArguments) -> Study:
    """One run for each data set, method and seed."""
    chains = [
        [args.train_job(f"{dataset}/{method}/{seed}", dataset, seed, labels, args.of_method(method))]
        for dataset in args.datasets
        for method in args.methods
        for labels in [{"dataset": dataset, "method": method}]
        for seed in args.seeds
    ]
    draw = partial(draw_points, panel=["dataset"], line="method")
    return Study("Comparison of methods", chains, ["dataset", "method"], ["dataset", "method"], draw)


def compare_main() -> None:
    """`recipes/compare.py`."""
    study_main(CompareArguments, plan_compare)
