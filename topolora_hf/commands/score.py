"""`topolora score`: masks of an adapter against those of a data set."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.arguments import DataArguments
from ..data.errors import DataError
from ..data.protocols import PROTOCOLS
from ..files import output_folder, write_json
from ..metrics import LINE_SCORES
from ..settings import option
from .arguments import InferenceArguments

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import nn

    from ..data.loading import SegmentationData


_TABLES = ("classes", "all", "confusion")
_OF_CLASS = ("dice", "iou", "precision", "recall", "cldice", "auroc")


@dataclass(kw_only=True)
class ScoreArguments(InferenceArguments, DataArguments):
    """Score an adapter on a data set. The settings of the data are those of its training run."""

    part: str = option("test", "what is scored: train, validation, test, or all of them", group="data")
    metrics: list[str] = option(
        [], f"scores to add to the usual ones: {', '.join(LINE_SCORES)}", group="output", choices=LINE_SCORES
    )
    output_dir: str = option("scores", "where metrics.json, per_image.csv and pictures are written", group="output")

    def __post_init__(self):
        DataArguments.__post_init__(self)
        scored = PROTOCOLS[self.protocol].scored
        if self.part not in scored and (self.protocol == "paper" or self.part != "all"):
            raise ValueError(f"protocol {self.protocol} scores {' or '.join(scored)} images, got part={self.part!r}")


def score(args: ScoreArguments, network: "nn.Module | None" = None) -> dict:
    """Score `network`, with `adapter_settings`, or by default what `args.adapter` names; return the metrics.

    They are written to metrics.json, with per_image.csv and pictures beside it.
    """
    from ..training.scoring import score_rows

    predictor = args.build_predictor(network)
    settings = predictor.settings
    splits = args.load(intensity=settings.intensity, bands=settings.bands)
    is_named_alike = settings.num_labels == 1 or splits.labels == settings.labels  # the name of a single one is free
    if len(splits.labels) != settings.num_labels or not is_named_alike:
        raise DataError(
            f"{args.dataset} has the classes {', '.join(splits.labels)}, {args.adapter} predicts "
            f"{', '.join(settings.labels)}: name them in --classes as the adapter does, in its order"
        )
    if args.part not in (*splits, "all"):
        raise DataError(f"{args.dataset} has no {args.part!r} images; --part may be {', '.join(splits)} or all")
    rows = _rows_of_all(splits) if args.part == "all" else splits[args.part]
    scores = score_rows(predictor, rows, more_metrics=args.metrics)
    output = output_folder(args.output_dir)
    more = {"scale": args.scale, "match_colours": args.match_colours, "dtype": predictor.precision}
    metrics = scores.metrics(settings, Path(args.dataset).name, args.part, args.protocol, **more)
    scores.save(output)
    write_json(output / "metrics.json", metrics)  # last: it says that all is there
    print_metrics(metrics)
    print(f"wrote {output / 'metrics.json'}, per_image.csv and pictures beside it")
    return metrics


def _rows_of_all(splits: "SegmentationData") -> Sequence[dict]:
    """All rows. If two splits share ids, the split's name goes before every id."""
    from torch.utils.data import ConcatDataset

    ids = list(chain.from_iterable(rows["id"] for rows in splits.values()))
    is_shared = len(set(ids)) < len(ids)
    return ConcatDataset(_Renamed(rows, part) if is_shared else rows for part, rows in splits.items())


@dataclass
class _Renamed(Sequence):
    """Rows of a split, decoded when they are read, with the split's name in their ids."""

    rows: "Dataset"
    part: str

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict:
        row = self.rows[number]
        return {**row, "id": f"{self.part}/{row['id']}"}


def print_metrics(metrics: dict) -> None:
    """Print a line a value: numbers with four decimals, scores with their interval; and of several classes tables."""
    intervals = metrics.get("intervals", {})
    for name, value in metrics.items():
        if isinstance(value, float):
            low, high = intervals.get(name, (math.nan, math.nan))  # None in the file, where one image has no interval
            low_high = "" if low is None or math.isnan(low) else f"   [{low:.4f}, {high:.4f}]"
            print(f"{name:27} {value:.4f}{low_high}")
        elif name == "n_defined":
            print(f"{name:27} {', '.join(f'{metric} {count}' for metric, count in value.items())}")
        elif name not in ("intervals", *_TABLES):
            print(f"{name:27} {value}")
    if "classes" in metrics:
        by_class = {**metrics["classes"], "all together": metrics["all"]}
        _print_table(_OF_CLASS, {name: [_number(own[key]) for key in _OF_CLASS] for name, own in by_class.items()})
        names, pixels = metrics["confusion"]["labels"], metrics["confusion"]["pixels"]
        print("pixels: rows are what they are, columns what they were predicted to be")
        _print_table(names, {name: list(map(str, row)) for name, row in zip(names, pixels, strict=True)})


def _number(value: float | None) -> str:
    """Four decimals; of what is not defined, which is None in the file, a dash."""
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"


def _print_table(head: Sequence[str], rows: dict[str, list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(head, *rows.values(), strict=True)]
    for name, cells in {"": head, **rows}.items():
        print(f"{name:27} " + "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)))
