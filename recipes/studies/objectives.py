"""Train the same network by clDice and by its rivals, score validation images, and write the tables.

    python recipes/studies/objectives.py --data_root path/to/data

A run that is done is not repeated, an interrupted one goes on. --dry_run lists them, --set NAME=VALUE changes settings.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import pandas as pd

from engine.arguments import StudyArguments
from engine.gains import paired_table
from engine.jobs import Job
from engine.pictures import draw_points
from engine.study import Study, study_main
from engine.tables import SCORES, Table, mean_table
from objective_runs import USUAL, ObjectiveRunArguments
from rival_losses import OBJECTIVES
from topolora_hf.settings import option

_SCORES = {name: SCORES[name] for name in ("dice", "cldice", "precision", "recall")}
_SCORES["average_precision"] = "average precision"  # of every threshold: an objective may shift the best one
_TOPOLOGY = {"betti0_error": "pieces too many or few", "betti1_error": "holes too many or few"}
_COST = {"loss_seconds": "seconds of processor a batch", "loss_ratio": "over clDice's"}


@dataclass(kw_only=True)
class ObjectivesArguments(StudyArguments):
    """Train with each objective, from the same seeds on the same tiles. No test image is scored."""

    objectives: list[str] = option(list(OBJECTIVES), "what is minimised", choices=tuple(OBJECTIVES))
    dataset: str = option("drive", "a name, a folder, or a name that data_dirs gives")
    preset: str = option("detail_only", "which parts are trained")
    validation_fraction: float = option(
        0.25, "share of the training images that is cut off by the seed, and scored", above=0, below=1
    )
    output_dir: str = option("studies/objectives", "where runs, tables and pictures are written")


def plan_objectives(args: ObjectivesArguments) -> Study:
    """Plan one run for each objective and seed, seed by seed: what ends early leaves whole comparisons."""
    jobs = []
    for seed in args.seeds:
        for objective in args.objectives:
            own = {"preset": args.preset, "base": args.base, "validation_fraction": args.validation_fraction}
            own["cldice_weight"] = OBJECTIVES[objective][1]
            labels = {"dataset": args.dataset, "objective": objective}
            job = args.train_job(f"{args.dataset}/{objective}/{seed}", args.dataset, seed, labels, own)
            arguments = ObjectiveRunArguments(**asdict(job.arguments), objective=objective)
            jobs.append(replace(job, command="train_objective", arguments=arguments))
    keys, draw = ["dataset", "objective"], partial(draw_points, panel=["dataset"], line="objective")
    return Study("Objectives", [[job] for job in jobs], keys, keys, draw, partial(_tables, jobs))


def _tables(jobs: Sequence[Job], summary: pd.DataFrame) -> list[Table]:
    """Make the tables of differences from clDice, of topology and of cost."""
    usual = {job.labels["seed"]: job for job in jobs if job.labels["objective"] == USUAL}
    pairs: dict[tuple, list] = {}
    for job in jobs:
        if job.labels["objective"] != USUAL and job.labels["seed"] in usual:
            pairs.setdefault((job.labels["objective"],), []).append((job, usual[job.labels["seed"]]))
    keys = ["dataset", "objective"]
    return [
        *paired_table(f"Less {USUAL}, seed by seed", ["objective"], pairs, {**_SCORES, **_TOPOLOGY}),
        *mean_table("Topology", summary, keys, _TOPOLOGY),
        *mean_table("Cost of the loss, forward and backward", summary, keys, _COST),
    ]


if __name__ == "__main__":
    study_main(ObjectivesArguments, plan_objectives)
