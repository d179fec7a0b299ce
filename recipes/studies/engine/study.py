"""A study: a list of runs, each done once, and the tables and the picture of them."""

import re
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from engine.arguments import StudyArguments
from engine.engine import run_jobs, worker_command
from engine.gains import gain_table
from engine.jobs import Job, State, require_same_settings
from engine.tables import (
    Table,
    calibration_table,
    collect,
    cost_table,
    notes,
    score_table,
    summarise,
    write_tables,
)
from topolora_hf.cli import fail, run_command
from topolora_hf.pictures.figures import save_figure


@dataclass(frozen=True)
class Study:
    """What is run, and how it is shown.

    Attributes:
        title: of the tables.
        chains: jobs that follow one another; chains are independent.
        keys: the labels that name a row of the summary: all but the seed.
        cost_keys: those of them that parameters, time and memory depend on.
        draw: the picture of a summary.
        tables: further tables of a summary, before the others.
    """

    title: str
    chains: Sequence[Sequence[Job]]
    keys: Sequence[str]
    cost_keys: Sequence[str]
    draw: Callable[[pd.DataFrame], Figure]
    tables: Callable[[pd.DataFrame], list[Table]] = lambda summary: []

    @property
    def jobs(self) -> list[Job]:
        return [job for chain in self.chains for job in chain]


def run_study(
    args: StudyArguments,
    study: Study,
    command_line: str,
    command: Callable[[Job], list[str]] = worker_command,
) -> list[Job]:
    """Do what is not done, then write table.csv, summary.csv, .md, .tex and .png into the output directory.

    Args:
        args: which jobs, how many at once.
        study: planned from `args`.
        command_line: what the user typed, for the tables' notes.
        command: the command line of a job.

    Returns:
        The jobs that failed.

    Raises:
        ValueError: a run is planned twice, no name matches `only`, or a directory holds a run of other settings.
    """
    twice = [name for name, count in Counter(job.name for job in study.jobs).items() if count > 1]
    if twice:
        raise ValueError(f"runs are listed twice: {', '.join(twice)}")
    chains = [_up_to_last_match(chain, args.only or "") for chain in study.chains]
    if not any(chains):
        raise ValueError(f"only={args.only!r} is in no name of {', '.join(job.name for job in study.jobs)}")
    require_same_settings(study.jobs)
    if args.dry_run:
        for chain in chains:
            for job in chain:
                print(f"{job.state:11} {job.name}")
        return []
    if not args.tables_only:
        run_jobs(chains, args.jobs, args.threads, command)
    write_study(args, study, command_line)
    return [job for job in study.jobs if job.state == State.FAILED]


def _up_to_last_match(chain: Sequence[Job], pattern: str) -> Sequence[Job]:
    last = max((number for number, job in enumerate(chain) if re.search(pattern, job.name)), default=-1)
    return chain[: last + 1]


def write_study(args: StudyArguments, study: Study, command_line: str) -> None:
    """Write tables and picture of what is done so far."""
    output = Path(args.output_dir)
    runs = collect(study.jobs)
    summary = summarise(runs, study.keys)
    tables = [
        *study.tables(summary),
        *score_table(summary, study.keys),
        *gain_table(study.jobs, study.keys),
        *cost_table(runs, study.cost_keys),
        *calibration_table(summary, study.keys),
    ]
    remarks = notes(runs, command_line)
    write_tables(output, study.title, runs, summary, tables, remarks)
    save_figure(study.draw(summary), output / "summary.png")
    print(f"table.csv, summary.csv, summary.md, summary.tex and summary.png in {output}")


def study_main(arguments: type[StudyArguments], plan: Callable[[StudyArguments], Study]) -> None:
    """Run a study's command: from flags (or a settings file) to tables; if a run failed, fail after them."""

    def run(args: StudyArguments) -> None:
        failed = run_study(args, plan(args), shlex.join(["python", *sys.argv]))
        if failed:
            names = ", ".join(job.name for job in failed)
            fail(f"error: {len(failed)} runs failed (log.txt of each says why): {names}", 1)

    run_command(arguments, run)
