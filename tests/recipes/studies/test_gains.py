import dataclasses
import math
import statistics

import pytest

from engine.gains import gain_table
from topolora_hf.files import write_json
from topolora_hf.metrics.report import score_set, write_per_image_csv

KEYS = ["dataset", "method"]


@pytest.fixture
def run(make_job):
    """`run(method, seed, dice=[...], ...)`: a job of data set d, done where it has scores, by image a, b, ..."""

    def make(method: str, seed: int, ids: str = "abcdef", **scores: list[float]):
        job = make_job(f"{method}-{seed}", seed)
        job = dataclasses.replace(job, labels={"dataset": "d", "method": method, "seed": seed})
        if scores:
            rows = [dict(zip(("id", *scores), row, strict=True)) for row in zip(ids, *scores.values(), strict=False)]
            write_per_image_csv(job.directory / "per_image.csv", rows)
            write_json(job.directory / "metrics.json", score_set(rows))
        return job

    return make


def test_runs_of_a_seed_are_set_against_each_other_image_by_image(run):
    full = {0: [0.8, 0.9, 0.7], 1: [0.6, 0.8, 0.7]}
    branch = {0: [0.7, 0.9, 0.5], 1: [0.6, 0.7, 0.8]}
    jobs = [run("topolora", seed, dice=full[seed]) for seed in (0, 1)]
    jobs += [run("detail_only", seed, dice=branch[seed]) for seed in (1, 0)] + [run("unet", 0, dice=[0.1, 0.1, 0.1])]
    (table,) = gain_table(jobs, KEYS)
    measured = [heading for name in ("Dice", "clDice", "F1 within 2 px") for heading in (name, "95 % (images)")]
    assert table.headings == ["dataset", *measured, "seeds"]
    deviation = statistics.stdev([0.1, 0.0])
    assert table.rows == [["d", f"+0.0500 ± {deviation:.4f}†", "+0.0500 to +0.0500", "–", "–", "–", "–", "2"]]


def test_the_interval_is_over_images_with_the_mean_of_their_seeds(run):
    jobs = [run("topolora", 0, dice=[0.8, 0.5]), run("topolora", 1, dice=[0.6, 0.5])]
    jobs += [run("detail_only", seed, dice=[0.5, 0.6]) for seed in (0, 1)]
    (((_, gain, interval, *_),),) = (table.rows for table in gain_table(jobs, KEYS))
    assert gain == "+0.0500 ± 0.0707†" and interval == "-0.1000 to +0.2000"


def test_an_image_without_a_score_in_either_run_counts_in_neither(run):
    jobs = [run("topolora", 0, cldice=[0.8, math.nan, 0.7]), run("detail_only", 0, cldice=[0.9, 0.1, 0.8])]
    ((row,),) = (table.rows for table in gain_table(jobs, KEYS))
    assert row[3:5] == ["-0.1000", "-0.1000 to -0.1000"]


def test_seeds_that_are_not_done_are_counted_and_without_a_pair_there_is_no_table(run):
    jobs = [run("topolora", 0, dice=[0.8, 0.7]), run("detail_only", 0, dice=[0.7, 0.7])]
    waiting = [run("topolora", 1, dice=[0.8, 0.7]), run("detail_only", 1)]
    (table,) = gain_table([*jobs, *waiting], KEYS)
    assert table.rows[0][-1] == "1 of 2"
    assert gain_table(waiting, KEYS) == gain_table(jobs[:1], KEYS) == []
    assert gain_table([dataclasses.replace(jobs[0], labels={"setting": "rank 4", "seed": 0})], ["setting"]) == []


def test_runs_of_other_images_are_refused_by_name(run):
    jobs = [run("topolora", 0, "ab", dice=[0.8, 0.7]), run("detail_only", 0, "ac", dice=[0.8, 0.7])]
    with pytest.raises(ValueError, match=r"topolora-0/per_image.csv and .*detail_only-0/per_image.csv .* alone: b, c"):
        gain_table(jobs, KEYS)
