"""Settings that all studies share, and the jobs that follow from them."""

import argparse
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from itertools import chain
from pathlib import Path

from engine.jobs import Job
from topolora_hf.commands.parser import SettingsParser
from topolora_hf.commands.score import ScoreArguments
from topolora_hf.data.arguments import DataArguments
from topolora_hf.data.catalog import CATALOG
from topolora_hf.processes import usable_cores
from topolora_hf.settings import check_limits, option
from topolora_hf.training.arguments import TrainArguments

DATA_FOLDERS = {
    "drive": "DRIVE",
    "stare": "STARE",
    "chase_db1": "CHASE_DB1",
    "hrf": "HRF",
    "kvasir": "Kvasir-SEG",
    "sl_ssdd": "SL-SSDD",
}
METHODS = {
    name: {"preset": name}  # paper: topolora without its detail branch
    for name in ("topolora", "detail_only", "paper", "seglab", "decoder_only", "lora_only", "adapter_only")
} | {name: {"network": name} for name in ("unet", "nnunet", "deeplabv3plus", "segformer", "mask2former")}
# The study decides these, or has a flag for them.
_OWN_FLAGS = {"dataset", "data_dir", "preset", "base", "seed", "max_steps", "output_dir", "num_threads", "resume"}
_OWN_FLAGS |= {"overwrite"}
# A baseline has no such part.
_OURS_ALONE = {"image_size", "rank", "lora", "lora_targets", "decoder_init", "detail_learning_rate"}
_OURS_ALONE |= {"gradient_checkpointing"}
# A test set is read as the training set, but has its own splits.
_NOT_FOR_SCORING = {"dataset", "data_dir", "split", "seed"}


@dataclass(kw_only=True)
class RunArguments(TrainArguments):
    """Settings of one training run of a study: those of `recipes/train.py`, and what only studies vary."""

    network: str = option("topolora", "topolora: ours; or the name of a baseline, trained from scratch")
    train_images: int | None = option(
        None,
        "train on this many images, drawn by the seed (a larger number adds images); by default on all",
        at_least=1,
    )


@dataclass(kw_only=True)
class StudyArguments:
    """A list of runs: which, with what settings, and how many at once."""

    data_root: str | None = option(
        None,
        f"the folder that holds {', '.join(f'{folder}/' for folder in DATA_FOLDERS.values())}; without it (and "
        "without data_dirs) named sets come from the Hub",
    )
    data_dirs: list[str] | None = option(None, "where single sets lie, as NAME=PATH; a new name is a set of one's own")
    output_dir: str = option("studies", "where runs, tables and pictures are written")
    seeds: list[int] = option([0, 1, 2], "one run each; tables give their mean and standard deviation")
    base: str = option(
        "tiny", "the base of adapters: a SAM on the Hub, a directory, or embedded: tiny, tiny-regions, ..."
    )
    max_steps: int | None = option(None, "optimizer steps of every run; by default as recipes/train.py", at_least=1)
    set: list[str] | None = option(
        None,
        "further settings of recipes/train.py for every run, as NAME=VALUE; baselines do not take those of parts that "
        "only our network has",
    )
    jobs: int = option(1, "runs at once", at_least=1)
    num_threads: int | None = option(None, "CPU threads, shared out over them; by default all cores", at_least=1)
    only: str | None = option(None, "run only those whose name holds this regular expression, and what they follow")
    dry_run: bool = option(False, "list the runs and how far they have come, and do nothing")
    tables_only: bool = option(False, "run nothing, write tables and pictures from what is done")

    def __post_init__(self):
        check_limits(self)
        try:
            re.compile(self.only or "")
        except re.error as error:
            raise ValueError(f"only must be a regular expression, got {self.only!r}: {error}") from error
        self.places = parse_pairs("data_dirs", self.data_dirs or [])
        self.settings = parse_settings(self.set or [])

    @property
    def threads(self) -> int:
        """CPU threads of one job."""
        return max(1, (self.num_threads or usable_cores()) // self.jobs)

    def train_job(self, name: str, dataset: str, seed: int, labels: Mapping, settings: Mapping) -> Job:
        """Plan a training run.

        Args:
            name: its directory below the study's.
            dataset: its data set.
            seed: its seed.
            labels: what tables call it.
            settings: fields of `RunArguments` that this run has of its own.

        Raises:
            ValueError: `--set` names one of them, or a value is not allowed.
        """
        name = inside(name)
        clash = sorted(self.settings.keys() & settings.keys())
        if clash:
            raise ValueError(f"set may not give {', '.join(clash)}: run {name} has its own")
        common = {"max_steps": self.max_steps, "num_threads": self.threads, "score_untrained": False} | self.settings
        is_baseline = "network" in settings
        if is_baseline:
            common = {key: value for key, value in common.items() if key not in _OURS_ALONE}
        own = {**settings, "seed": seed, "output_dir": str(Path(self.output_dir, name))}
        arguments = RunArguments(**self._data(dataset), **common, **own)
        return Job(name, "train_baseline" if is_baseline else "train", arguments, {**labels, "seed": seed})

    def score_job(self, trained: Job, dataset: str, part: str, labels: Mapping) -> Job:
        """Plan the scoring of a trained run on another data set, in a folder of the run."""
        name = f"{trained.name}/on-{inside(dataset)}"
        command, kind, base = "score", "adapter", trained.arguments.base
        if trained.command == "train_baseline":
            command, kind, base = "score_baseline", "network", None
        arguments = ScoreArguments(
            **self.of_scoring(dataset),
            adapter=str(trained.directory / kind),
            base=base,
            part=part,
            output_dir=str(Path(self.output_dir, name)),
        )
        return Job(name, command, arguments, {**labels, "seed": trained.labels["seed"]})

    def of_scoring(self, dataset: str) -> dict:
        """Find the settings of the data of a set that is scored and not trained on."""
        of_data = {item.name for item in fields(DataArguments)} - _NOT_FOR_SCORING
        return {**self._data(dataset), **{key: value for key, value in self.settings.items() if key in of_data}}

    def _data(self, dataset: str) -> dict[str, str | None]:
        """Find `dataset` and `data_dir` of the set with this name."""
        place = self.places.get(dataset)
        if place is not None and dataset not in CATALOG:
            return {"dataset": place, "data_dir": None}
        if place is None and self.data_root is not None and dataset in DATA_FOLDERS:
            folder = Path(self.data_root, DATA_FOLDERS[dataset])
            if not folder.is_dir():
                raise ValueError(f"data set {dataset} should be in {folder}, which does not exist; or give data_dirs")
            place = str(folder)
        return {"dataset": dataset, "data_dir": place}


@dataclass(kw_only=True)
class MethodStudyArguments(StudyArguments):
    """A list of runs that compare methods."""

    detail_base: str | None = option(None, "the base of method detail_only; by default that of the others")

    def of_method(self, method: str) -> dict:
        """Return the settings of a method; those of an adapter with its base.

        Raises:
            ValueError: there is no such method.
        """
        if method not in METHODS:
            raise ValueError(f"unknown method {method!r}; allowed: {', '.join(METHODS)}")
        settings = METHODS[method]
        if "network" in settings:
            return dict(settings)
        base = self.detail_base or self.base if method == "detail_only" else self.base
        return {**settings, "base": base}


def parse_settings(pairs: Iterable[str]) -> dict:
    """Turn `["learning_rate=1e-3", ...]` into settings of `TrainArguments`; spaces separate the values of a list.

    >>> parse_settings(["learning_rate=1e-3", "augmentation=False", "test_time_scales=0.8 1"])
    {'learning_rate': 0.001, 'augmentation': False, 'test_time_scales': [0.8, 1.0]}

    Raises:
        ValueError: a text is no pair, or its name or value is not allowed.
    """
    texts = parse_pairs("set", pairs)
    allowed = {item.name: item for item in fields(TrainArguments) if item.name not in _OWN_FLAGS}
    for name in texts:
        if name in _OWN_FLAGS:
            raise ValueError(f"set may not give {name}: the study decides it, or has a flag for it")
        if name not in allowed:
            raise ValueError(f"set knows no {name!r}; allowed: {', '.join(allowed)}")
    flags = chain.from_iterable(
        (f"--{name}", *([text] if allowed[name].default_factory is MISSING else text.split()))
        for name, text in texts.items()
    )
    try:
        parser = SettingsParser(TrainArguments, exit_on_error=False)
        (parsed,) = parser.parse_args_into_dataclasses(["--dataset", "synthetic", *flags])
    except (argparse.ArgumentError, ValueError) as error:
        raise ValueError(f"set: {error}") from error
    return {name: getattr(parsed, name) for name in texts}


def inside(name: str) -> str:
    """Turn a run's name into a path below the study's directory, wherever its data set lies.

    >>> inside("/data/cracks/unet/0"), inside("../cracks/unet/0")
    ('data/cracks/unet/0', 'cracks/unet/0')
    """
    return "/".join(part for part in Path(name).parts if part not in (os.sep, ".."))


def parse_pairs(flag: str, texts: Iterable[str]) -> dict[str, str]:
    """Turn texts NAME=VALUE into pairs; `flag` is what errors call them. Raises ValueError."""
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise ValueError(f"{flag} takes NAME=VALUE, got {text!r}")
        if name in pairs:
            raise ValueError(f"{flag} names {name} twice")
        pairs[name] = value
    return pairs
