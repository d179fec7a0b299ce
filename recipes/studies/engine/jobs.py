"""Jobs: runs of one command with their own directories, which say how far they have come."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from engine.claims import holder
from topolora_hf.data.arguments import DataArguments
from topolora_hf.files import read_json_object
from topolora_hf.settings import changed_settings
from topolora_hf.training.progress import free_settings

SETTINGS, METRICS, PER_IMAGE, FAILURE, LOG = "job.json", "metrics.json", "per_image.csv", "failed.json", "log.txt"
# What training wrote down comes first, so that runs of `recipes/train.py` count as well.
_RECORDS = ("train_args.json", SETTINGS)


class State(StrEnum):
    """How far a job has come."""

    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    TO_DO = "to do"


@dataclass(frozen=True)
class Job:
    """One run of a study.

    Attributes:
        name: its directory below the study's, as messages and `--only` call it.
        command: a name in `worker.COMMANDS`.
        arguments: the command's settings; `output_dir` is the job's directory.
        labels: what the tables call it: method, dataset, seed and the like.
    """

    name: str
    command: str
    arguments: DataArguments
    labels: Mapping[str, str | int]

    @property
    def directory(self) -> Path:
        return Path(self.arguments.output_dir)

    @property
    def is_done(self) -> bool:
        """True if its scores are there, and nothing went wrong after they were written."""
        return (self.directory / METRICS).exists() and not (self.directory / FAILURE).exists()

    @property
    def state(self) -> State:
        """How far the files in its directory say it has come."""
        if holder(self.directory):
            return State.RUNNING
        if self.is_done:
            return State.DONE
        if (self.directory / FAILURE).exists():
            return State.FAILED
        return State.INTERRUPTED if (self.directory / SETTINGS).exists() else State.TO_DO


def require_same_settings(jobs: Iterable[Job]) -> None:
    """Refuse directories that hold a run of other settings.

    Raises:
        ValueError: The message names each directory and what differs.
    """
    problems = [f"{job.directory}: {'; '.join(changed)}" for job in jobs if (changed := _changed_settings(job))]
    if problems:
        listed = "\n".join(problems)
        raise ValueError(
            f"{len(problems)} runs were begun with other settings. Choose another output_dir or remove these:\n{listed}"
        )


def _changed_settings(job: Job) -> list[str]:
    record = next((job.directory / name for name in _RECORDS if (job.directory / name).exists()), None)
    if record is None:
        return []
    free = free_settings(job.arguments.dataset) | {"adapter"}  # the run that is scored may have moved along
    return changed_settings(read_json_object(record), job.arguments, free)
