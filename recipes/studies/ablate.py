"""Vary LoRA's rank, the weight of clDice and the trained parts one at a time, and write the table.

    python recipes/studies/ablate.py --study rank --data_root path/to/data

A run that is done is not repeated, an interrupted one goes on. --dry_run lists them, --set NAME=VALUE changes settings.
"""

from dataclasses import dataclass
from functools import partial

from engine.arguments import StudyArguments
from engine.pictures import draw_points
from engine.study import Study, study_main
from topolora_hf.settings import option

# For each study: the data set that the paper uses, and the settings of each row.
STUDIES = {
    "rank": ("drive", {f"rank {rank}": {"preset": "topolora", "rank": rank} for rank in (4, 8, 16, 32)}),
    "cldice_weight": (
        "chase_db1",
        {
            **{
                f"fixed {weight:g}": {"preset": "topolora", "cldice_schedule": "fixed", "cldice_weight": weight}
                for weight in (0.0, 0.25, 0.5, 1.0, 2.0)
            },
            "ramp to 0.5": {"preset": "topolora", "cldice_schedule": "ramp", "cldice_weight": 0.5},
            "adaptive": {"preset": "topolora", "cldice_schedule": "adaptive"},
        },
    ),
    "components": (
        "stare",
        {preset: {"preset": preset} for preset in ("decoder_only", "lora_only", "adapter_only", "paper", "topolora")},
    ),
}


@dataclass(kw_only=True)
class AblateArguments(StudyArguments):
    """Vary one setting at a time."""

    study: str = option("all", "what is varied", choices=[*STUDIES, "all"])
    dataset: str | None = option(None, "by default that of the paper for each study: drive, chase_db1, stare")
    output_dir: str = option("studies/ablate", "where runs, tables and pictures are written")


def plan_ablate(args: AblateArguments) -> Study:
    """Plan one run for each row of each study and each seed."""
    chains = []
    for study in STUDIES if args.study == "all" else [args.study]:
        usual, rows = STUDIES[study]
        dataset = args.dataset or usual
        for setting, settings in rows.items():
            labels = {"study": study, "dataset": dataset, "setting": setting}
            for seed in args.seeds:
                name = f"{study}-{dataset}/{setting.replace(' ', '_')}/{seed}"
                chains.append([args.train_job(name, dataset, seed, labels, {"base": args.base, **settings})])
    draw = partial(draw_points, panel=["study", "dataset"], line="setting")
    keys = ["study", "dataset", "setting"]
    return Study("Ablation", chains, keys, keys, draw)


if __name__ == "__main__":
    study_main(AblateArguments, plan_ablate)
