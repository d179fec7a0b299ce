"""Train on each data set, score on all, and write the table.

    python recipes/studies/cross_dataset.py --data_root path/to/data

A run that is done is not repeated, an interrupted one goes on. --dry_run lists them, --set NAME=VALUE changes settings.
"""

from dataclasses import dataclass
from functools import partial

import pandas as pd

from engine.anchors import AnchoredStudyArguments
from engine.arguments import METHODS
from engine.pictures import draw_matrices
from engine.study import Study, study_main
from engine.tables import NOTHING, Table, matrix_table
from topolora_hf.settings import option

# A set that was not trained on is scored on all its images (protocol paper: on its test split); DRIVE, as in
# publications, on its test split.
_SCORED_PART = {"drive": "test"}


@dataclass(kw_only=True)
class CrossDatasetArguments(AnchoredStudyArguments):
    """Train on each data set, score on all."""

    methods: list[str] = option(["topolora", "detail_only", "unet"], f"of {', '.join(METHODS)}")
    datasets: list[str] = option(["drive", "chase_db1", "stare"], "names, folders, or names that data_dirs gives")
    train_on: list[str] | None = option(None, "the data sets among them to train on; by default all")
    output_dir: str = option("studies/cross_dataset", "where runs, tables and pictures are written")

    def __post_init__(self):
        super().__post_init__()
        unknown = sorted(set(self.train_on or []) - set(self.datasets))
        if unknown:
            raise ValueError(
                f"train_on must be among the datasets {', '.join(self.datasets)}; got {', '.join(unknown)}"
            )


def plan_cross_dataset(args: CrossDatasetArguments) -> Study:
    """Plan a training run for each set, method and seed, followed by its scores on the other sets."""
    chains, part = [], "test" if args.settings.get("protocol") == "paper" else "all"
    for source in args.train_on or args.datasets:
        for method in args.methods:
            for seed in args.seeds:
                labels = {"method": method, "trained_on": source, "tested_on": source}
                name = f"{source}/{method}/{seed}"
                trained = args.train_job(name, source, seed, labels, args.of_method(method))
                scored = [
                    args.score_job(trained, target, _SCORED_PART.get(target, part), {**labels, "tested_on": target})
                    for target in args.datasets
                    if target != source
                ]
                chains.append([trained, *scored])
    for name in args.maps:
        for target in args.datasets:
            labels = {"trained_on": NOTHING, "tested_on": target}
            chains.append([args.anchor_job(name, target, _SCORED_PART.get(target, part), labels)])
    draw = partial(draw_matrices, panel="method", row="trained_on", column="tested_on")
    keys, cost_keys = ["method", "trained_on", "tested_on"], ["method", "trained_on"]
    title = "Across data sets (the set that was trained on: its test split)"
    return Study(title, chains, keys, cost_keys, draw, _matrices)


def _matrices(summary: pd.DataFrame) -> list[Table]:
    return [matrix_table(summary, measure, ["method", "trained_on"], "tested_on") for measure in ("dice", "cldice")]


if __name__ == "__main__":
    study_main(CrossDatasetArguments, plan_cross_dataset)
