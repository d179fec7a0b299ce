"""Differences of runs that belong together, seed by seed and image by image: what SAM adds, above all."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from engine.jobs import PER_IMAGE, Job, State
from engine.tables import (
    NOTHING,
    SCORES,
    Table,
    deviation_text,
    headings_of,
)
from topolora_hf.metrics.report import bootstrap_intervals

_FULL, _BRANCH = "topolora", "detail_only"
_MEASURES = {name: SCORES[name] for name in ("dice", "cldice", "relaxed_f1")}


def gain_table(jobs: Sequence[Job], keys: Sequence[str]) -> list[Table]:
    """Subtract the scores of `detail_only` from those of `topolora`, for runs that share every other label.

    Mean and sample standard deviation are over seeds. The interval is the 95 % bootstrap over images, each the mean
    over its seeds. If it holds zero, the gain may be chance.

    Args:
        jobs: of a study.
        keys: the labels that name a row of its summary; all but `method` name a row here.

    Returns:
        One table; none if no two runs that belong together are done.

    Raises:
        ValueError: two such runs scored different images; the message names their files.
    """
    others = [key for key in keys if key != "method"]

    def labels(job: Job) -> tuple:
        return tuple(job.labels[key] for key in (*others, "seed"))

    branches = {labels(job): job for job in jobs if job.labels.get("method") == _BRANCH}
    pairs = defaultdict(list)
    for job in jobs:
        if job.labels.get("method") == _FULL and labels(job) in branches:
            pairs[labels(job)[:-1]].append((job, branches[labels(job)]))
    return paired_table(f"What SAM adds ({_FULL} less {_BRANCH})", others, pairs)


def paired_table(
    title: str,
    keys: Sequence[str],
    pairs: Mapping[tuple, Sequence[tuple[Job, Job]]],
    measures: Mapping[str, str] = _MEASURES,
) -> list[Table]:
    """Subtract the scores of the second job of each pair from those of the first, as `gain_table` does.

    Args:
        title: of the table.
        keys: what the values that name a row are.
        pairs: those of each row, one a seed.
        measures: columns of per_image.csv, and how they are headed.
    """
    rows = [
        [*map(str, named), *_gains(of_row, measures)] for named, of_row in pairs.items() if any(map(_are_done, of_row))
    ]
    measured = [heading for name in measures.values() for heading in (name, "95 % (images)")]
    return [Table(title, [*headings_of(keys), *measured, "seeds"], rows, len(keys))] if rows else []


def _are_done(pair: tuple[Job, Job]) -> bool:
    return all(job.state == State.DONE for job in pair)


def _gains(pairs: Sequence[tuple[Job, Job]], measures: Iterable[str]) -> list[str]:
    """Write mean and interval of each measure, and the number of pairs."""
    done = [_differences(*pair).reindex(columns=[*measures]) for pair in pairs if _are_done(pair)]
    of_seeds = pd.DataFrame([images.mean() for images in done])
    of_images = pd.concat(done).groupby(level=0).mean()
    intervals = bootstrap_intervals(of_images.to_dict("records"))
    cells = [cell for name in measures for cell in (_mean(of_seeds[name]), _interval(*intervals[name]))]
    return [*cells, str(len(done)) if len(done) == len(pairs) else f"{len(done)} of {len(pairs)}"]


def _differences(full: Job, branch: Job) -> pd.DataFrame:
    """Return a row an image and a column a score."""
    paths = [job.directory / PER_IMAGE for job in (full, branch)]
    scores = [pd.read_csv(path, dtype={"id": str}).set_index("id") for path in paths]
    only_one = scores[0].index.symmetric_difference(scores[1].index)
    if len(only_one):
        raise ValueError(f"{paths[0]} and {paths[1]} must be of the same images; in one alone: {', '.join(only_one)}")
    return scores[0] - scores[1]


def _mean(values: pd.Series) -> str:
    mean, deviation = values.mean(), values.std(ddof=1)
    return NOTHING if math.isnan(mean) else f"{mean:+.4f}{deviation_text(deviation, digits=4)}"


def _interval(low: float, high: float) -> str:
    return NOTHING if math.isnan(low) else f"{low:+.4f} to {high:+.4f}"
