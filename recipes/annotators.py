"""Score the second annotator's masks of a data set against the first's: how far two experts agree.

    python recipes/annotators.py --dataset drive --data_dir path/to/DRIVE

The same evaluation as an adapter's, so that the two can be compared.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from topolora_hf.cli import run_command
from topolora_hf.commands.score import print_metrics
from topolora_hf.data.arguments import DataArguments
from topolora_hf.data.errors import DataError
from topolora_hf.files import output_folder, write_json
from topolora_hf.metrics.report import score_images, summarise, write_per_image_csv
from topolora_hf.settings import option


@dataclass(kw_only=True)
class AnnotatorArguments(DataArguments):
    """Score the second annotator against the first."""

    output_dir: str = option("annotators", "where metrics.json and per_image.csv are written", group="output")


def score_annotators(args: AnnotatorArguments) -> dict:
    """Write metrics.json and per_image.csv over all images that two people marked, in whatever split they are.

    Raises:
        DataError: Nobody marked an image twice.
        ValueError: One annotator is asked for.
    """
    if args.annotator != 1:
        raise ValueError(f"the second annotator is scored against the first: leave out annotator={args.annotator}")
    first, second = (_places(replace(args, annotator=who, validation_fraction=0).load()) for who in (1, 2))
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


def _places(data) -> dict[str, tuple]:
    """Where each image's row is, by id; only ids are read."""
    return {name: (rows, number) for rows in data.values() for number, name in enumerate(rows["id"])}


def _agreement(first: tuple, second: tuple) -> dict:
    """A row of the first annotator with the second's mask as the probability."""
    (rows, number), (other_rows, other_number) = first, second
    row, other = rows[number], other_rows.select_columns(["mask"])[other_number]
    return {**row, "mask": row["mask"].any(axis=0), "probability": other["mask"].any(axis=0).astype(float)}


if __name__ == "__main__":
    run_command(AnnotatorArguments, score_annotators)
