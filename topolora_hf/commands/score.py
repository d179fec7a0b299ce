"""`topolora score` and `topolora graders`: masks of an adapter, or of a second person, against a data set's."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from datasets import Dataset
from torch.utils.data import ConcatDataset
from tqdm import tqdm

from ..data.arguments import DataArguments
from ..data.errors import DataError
from ..data.loading import SegmentationData
from ..files import output_folder, write_json
from ..metrics.intervals import summarise
from ..metrics.report import score_images, write_per_image_csv
from ..training.scoring import score_rows
from .arguments import InferenceArguments, build_predictor


@dataclass(kw_only=True)
class ScoreArguments(InferenceArguments, DataArguments):
    """Score an adapter on a data set; the data's settings are those of its training run."""

    part: str = field(default="test", metadata={"help": "what is scored: train, validation, test, or all of them"})
    output_dir: str = field(default="scores", metadata={"help": "where metrics.json and per_image.csv are written"})

    def __post_init__(self):
        if self.protocol == "paper" and self.part not in ("validation", "test"):
            raise ValueError(f"protocol paper scores validation or test images alone, got part={self.part!r}")


@dataclass(kw_only=True)
class GraderArguments(DataArguments):
    """Score the second person's masks of a data set against the first's: how far two experts agree."""

    output_dir: str = field(default="graders", metadata={"help": "where metrics.json and per_image.csv are written"})


def score(args: ScoreArguments) -> dict:
    """Writes metrics.json, per_image.csv and pictures; returns what metrics.json holds."""
    predictor = build_predictor(args)
    splits = args.load(intensity=predictor.settings.intensity)
    if args.part not in (*splits, "all"):
        raise DataError(f"{args.dataset} has no {args.part!r} images; --part may be {', '.join(splits)} or all")
    scores = score_rows(predictor, _rows_of_all(splits) if args.part == "all" else splits[args.part])
    output = output_folder(args.output_dir)
    metrics = {
        "dataset": Path(args.dataset).name,
        "split": args.part,
        "protocol": args.protocol,
        "threshold": predictor.settings.threshold,
        "temperature": predictor.settings.temperature,
        "logit_bias": predictor.settings.logit_bias,
        "test_time_flips": predictor.settings.test_time_flips,
        "test_time_scales": list(predictor.settings.test_time_scales),
        "scale": args.scale,
        "match_colours": args.match_colours,
        "dtype": args.dtype or "float32",
        **scores.summary(),
    }
    scores.save(output, predictor.settings.threshold)
    write_json(output / "metrics.json", metrics)  # last: it says that all is there
    print_metrics(metrics)
    return metrics


def score_graders(args: GraderArguments) -> dict:
    """Writes metrics.json and per_image.csv over all images that two people marked, in whatever split they are.

    Raises:
        DataError: nobody marked an image twice.
        ValueError: one grader is asked for.
    """
    if args.annotator != 1:
        raise ValueError(
            f"the second person's masks are scored against the first's: nothing to choose by annotator={args.annotator}"
        )
    first, second = (_places(replace(args, annotator=number, validation_fraction=0).load()) for number in (1, 2))
    both = [name for name in first if name in second]
    if not both:
        raise DataError(f"data set {args.dataset} has no image that both people marked")
    rows = score_images(_agreement(first[name], second[name]) for name in tqdm(both, desc="scoring"))
    output = output_folder(args.output_dir)
    metrics = {"dataset": Path(args.dataset).name, **summarise(rows)}
    write_json(output / "metrics.json", metrics)
    write_per_image_csv(output / "per_image.csv", rows)
    print_metrics(metrics)
    return metrics


def _places(data: SegmentationData) -> dict[str, tuple[Dataset, int]]:
    """Where each image's row is, by id; nothing but ids is read."""
    return {name: (rows, number) for rows in data.values() for number, name in enumerate(rows["id"])}


def _rows_of_all(splits: SegmentationData) -> ConcatDataset:
    """Ids are one split's own: where two splits share some, the split's name goes before them all."""
    ids = list(chain.from_iterable(rows["id"] for rows in splits.values()))
    if len(set(ids)) == len(ids):
        return ConcatDataset(splits.values())
    return ConcatDataset(_Renamed(rows, part) for part, rows in splits.items())


@dataclass
class _Renamed(Sequence):
    """A split's rows, decoded when they are read, with the split's name in their ids."""

    rows: Dataset
    part: str

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict:
        row = self.rows[number]
        return {**row, "id": f"{self.part}/{row['id']}"}


def _agreement(first: tuple[Dataset, int], second: tuple[Dataset, int]) -> dict:
    """A row of the first person's with the second's mask as the probability."""
    (rows, number), (other_rows, other_number) = first, second
    row, other = rows[number], other_rows.select_columns(["mask"])[other_number]
    return {**row, "mask": row["mask"] == 1, "probability": other["mask"].astype(float)}


def print_metrics(metrics: dict) -> None:
    """One line a value, numbers with four decimals, a score with its interval."""
    intervals = metrics.get("intervals", {})
    for name, value in metrics.items():
        if isinstance(value, float):
            low, high = intervals.get(name, (math.nan, math.nan))  # None in the file, where one image has no interval
            low_high = "" if low is None or math.isnan(low) else f"   [{low:.4f}, {high:.4f}]"
            print(f"{name:22} {value:.4f}{low_high}")
        elif name != "intervals":
            print(f"{name:22} {value}")
