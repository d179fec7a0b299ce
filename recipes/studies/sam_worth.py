"""Measure what SAM adds, on a machine with the Hub and a card, and write one page that can be posted as it is.

    python recipes/studies/sam_worth.py --base facebook/sam-vit-base

Weights and data sets come from the Hub (--data_root: from a folder). First a few steps of each network are timed: the
command says how long all runs will take. A run that is done is not repeated, an interrupted one goes on; --budget ends
the command after so many hours, and the same command goes on.
"""

import json
import platform
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from engine.arguments import DATA_FOLDERS, StudyArguments
from engine.engine import run_jobs, worker_command
from engine.gains import gain_table
from engine.jobs import METRICS, Job, State, require_same_settings
from engine.tables import as_markdown, collect, cost_table, hours_text, matrix_table, notes, summarise
from topolora_hf.cli import fail, run_command
from topolora_hf.files import read_json_object, whole_file
from topolora_hf.settings import option

PAGE = "sam_worth.md"
_ALL, _NONE = "all", "none"
_METHODS = {
    "topolora": "the full network: SAM and the detail branch",
    "detail_only": "the detail branch alone, without SAM",
    "paper": "SAM without the detail branch; without any label: the first mask of SAM as it comes, without prompts",
}
_SCHEDULE = 100  # of a timing, which ends after a few steps of it
_PACKAGES = ("topolora_hf", "torch", "transformers", "peft", "accelerate")


@dataclass(kw_only=True)
class SamWorthArguments(StudyArguments):
    """Train with SAM, without SAM and without the detail branch: same images, steps and seeds."""

    base: str = option("facebook/sam-vit-base", "the SAM to measure: on the Hub, a directory, or embedded")
    datasets: list[str] = option(["drive", "chase_db1", "kvasir"], f"of {', '.join(DATA_FOLDERS)}, or in data_dirs")
    few: int = option(5, "how many labelled images are few; the other runs train on all", at_least=1)
    max_steps: int = option(2500, "optimizer steps of every run", at_least=1)
    budget: float | None = option(None, "hours after which the command ends; the same command goes on", above=0)
    output_dir: str = option("studies/sam_worth", f"where runs and {PAGE} are written")


def plan_timings(args: SamWorthArguments) -> list[Job]:
    """Plan a few timed steps of each network on each data set."""
    chosen = [_training(args, dataset, method, _ALL, args.seeds[0]) for dataset in args.datasets for method in _METHODS]
    timings = []
    for job in chosen:
        name = f"timing/{job.labels['dataset']}/{job.labels['method']}"
        own = {"output_dir": str(Path(args.output_dir, name)), "max_steps": _SCHEDULE}
        arguments = replace(job.arguments, **own)
        timings.append(Job(name, "time_steps", arguments, job.labels))
    return timings


def plan_runs(args: SamWorthArguments) -> list[Job]:
    """Plan SAM as it comes, then all runs seed by seed: one that ends early leaves whole comparisons."""
    jobs = []
    for dataset in args.datasets:
        untrained = _training(args, dataset, "paper", _NONE, args.seeds[0])
        jobs.append(replace(untrained, command="score_base"))
    for seed in args.seeds:
        for images in (str(args.few), _ALL):
            jobs += [_training(args, dataset, method, images, seed) for dataset in args.datasets for method in _METHODS]
    return jobs


def _training(args: SamWorthArguments, dataset: str, method: str, images: str, seed: int) -> Job:
    # Nothing is chosen by validation images, so every label can be trained on.
    own = {"preset": method, "base": args.base, "validation_fraction": 0.0}
    if images not in (_ALL, _NONE):
        own["train_images"] = int(images)
    labels = {"dataset": dataset, "labels": images, "method": method}
    return args.train_job(f"{dataset}/{images}/{method}/{seed}", dataset, seed, labels, own)


def estimate(args: SamWorthArguments, timings: Sequence[Job], runs: Sequence[Job]) -> float:
    """Print how long the runs that are left will take, and return it in seconds; unknown ones are left out."""
    measured = {}
    for job in timings:
        if job.is_done:
            measured[job.labels["dataset"], job.labels["method"]] = read_json_object(job.directory / METRICS)
    left = [job for job in runs if job.state != State.DONE]
    total = 0.0
    for (dataset, method), times in measured.items():
        of_this = [job for job in left if (job.labels["dataset"], job.labels["method"]) == (dataset, method)]
        trained = sum(job.command == "train" for job in of_this)
        scoring = times["seconds_to_start"] + times["seconds_per_image"] * times["images"]
        seconds = trained * args.max_steps * times["seconds_per_step"] + len(of_this) * scoring
        total += seconds
        each = f"{times['seconds_per_step']:.2f} s a step, {times['seconds_per_image']:.1f} s an image scored"
        print(f"{dataset:12} {method:12} {each}: {len(of_this)} runs, {hours_text(seconds)}")
    print(f"{len(left)} of {len(runs)} runs are left: about {hours_text(total / args.jobs)}", flush=True)
    if args.budget is not None and total / args.jobs > 3600 * args.budget:
        print(f"The budget of {args.budget:g} h ends before that; the same command goes on.", flush=True)
    return total


def write_page(args: SamWorthArguments, runs: Sequence[Job], command_line: str) -> Path:
    """Write the page from what is done so far; return its path."""
    rows = collect(runs)
    summary = summarise(rows, ["dataset", "labels", "method"])
    tables = [*gain_table(runs, ["dataset", "labels", "method"])]
    if "dice" in summary:
        tables += [matrix_table(summary, name, ["dataset", "labels"], "method") for name in ("dice", "cldice")]
    tables += cost_table(rows, ["dataset", "method"])
    remarks = [f"`{method}`: {text}." for method, text in _METHODS.items()]
    remarks += [
        f"Base: {args.base}{_revision(runs)}. Data sets: {', '.join(_place(args, name) for name in args.datasets)}.",
        f"`labels`: how many training images; {_ALL}: the whole training split. Test images are scored once, by the "
        "threshold 0.5, at their own resolution inside the field of view.",
        *notes(rows, command_line),
        f"Versions: {', '.join(f'{name} {version(name)}' for name in _PACKAGES)}, Python {platform.python_version()}.",
    ]
    parts = [f"# What {Path(args.base).name} adds", *map(as_markdown, tables), "\n".join(f"- {it}" for it in remarks)]
    page = Path(args.output_dir, PAGE)
    page.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(page) as unfinished:
        unfinished.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return page


def _place(args: SamWorthArguments, dataset: str) -> str:
    if dataset in args.places or args.data_root is not None:
        return f"{dataset} (a folder)"
    return f"{dataset} (the Hub)"


def _revision(runs: Sequence[Job]) -> str:
    """Say which weights of that name they are, as PEFT noted it in an adapter."""
    for job in runs:
        config = job.directory / "adapter" / "adapter_config.json"
        if config.exists() and (revision := json.loads(config.read_text(encoding="utf-8")).get("revision")):
            return f" at revision {revision}"
    return ""


def measure_sam(
    args: SamWorthArguments, command_line: str, command: Callable[[Job], list[str]] = worker_command
) -> list[Job]:
    """Time, estimate, run, and write the page; return the jobs that failed.

    Raises:
        ValueError: a directory holds a run of other settings, or `few` is no smaller number than all.
    """
    timings, runs = plan_timings(args), plan_runs(args)
    if args.only is not None:
        raise ValueError("only is not for this command: give datasets and seeds")
    require_same_settings([*timings, *runs])
    deadline = None if args.budget is None else time.monotonic() + 3600 * args.budget
    if not args.tables_only and not args.dry_run:  # one by one: else they slow each other
        run_jobs([[job] for job in timings], 1, args.threads, command, deadline)
        if failed := [job for job in timings if job.state == State.FAILED]:
            return failed
    estimate(args, timings, runs)
    if args.dry_run:
        return []
    if not args.tables_only:
        run_jobs([[job] for job in runs], args.jobs, args.threads, command, deadline)
    print(f"written: {write_page(args, runs, command_line)}")
    return [job for job in runs if job.state == State.FAILED]


def main() -> None:
    """Run the command; if a run failed, fail after the page is written."""

    def run(args: SamWorthArguments) -> None:
        if failed := measure_sam(args, shlex.join(["python", *sys.argv])):
            names = ", ".join(job.name for job in failed)
            fail(f"error: {len(failed)} runs failed (log.txt of each says why): {names}", 1)

    run_command(SamWorthArguments, run)


if __name__ == "__main__":
    main()
