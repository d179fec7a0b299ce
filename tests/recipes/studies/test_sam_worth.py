"""What SAM adds, by one command: planned, timed, estimated, stopped by a budget, resumed, and written on one page."""

import json
from dataclasses import asdict

import pytest

from engine import worker
from engine.jobs import METRICS, State
from engine.study import StudyArguments
from sam_worth import PAGE, SamWorthArguments, estimate, measure_sam, plan_runs, plan_timings
from topolora_hf.files import write_json

TIMED = {"seconds_per_step": 2.0, "seconds_per_image": 3.0, "images": 10, "seconds_to_start": 30.0}
_TIMING = f"echo '{json.dumps(TIMED)}' > metrics.json"


@pytest.fixture
def args(tmp_path):
    """Two seeds of one data set."""
    return SamWorthArguments(datasets=["synthetic"], seeds=[0, 1], max_steps=100, output_dir=str(tmp_path / "worth"))


@pytest.fixture
def command(args, shell):
    """`command(**lines)`: a stand-in for every job; timings take what `TIMED` says."""

    def build(**lines: str):
        timings = {job.name: _TIMING for job in plan_timings(args)}
        return shell(**{**timings, **lines})

    return build


def test_the_three_networks_are_trained_on_the_same_images_steps_and_seeds(args):
    assert issubclass(SamWorthArguments, StudyArguments)
    runs = plan_runs(args)
    first, trained = runs[0], runs[1:]
    assert (first.command, first.labels["labels"], first.arguments.preset) == ("score_base", "none", "paper")
    assert len(trained) == 2 * 2 * 3
    same = {"preset", "output_dir", "seed", "train_images"}
    settings = [{k: v for k, v in asdict(job.arguments).items() if k not in same} for job in trained]
    assert all(one == settings[0] for one in settings) and settings[0]["base"] == "facebook/sam-vit-base"
    assert settings[0]["validation_fraction"] == 0 and settings[0]["max_steps"] == 100
    assert {(j.labels["labels"], j.arguments.train_images) for j in trained} == {("5", 5), ("all", None)}
    assert [job.arguments.seed for job in trained] == 6 * [0] + 6 * [1], "whole comparisons come first"


def test_the_time_is_said_before_and_a_run_that_is_done_is_not_counted(args, command, capsys):
    measure_sam(args, "", command())
    said = capsys.readouterr().out
    # 12 trainings of 100 steps of 2 s; each of the 13 is scored: 30 s and 10 images of 3 s.
    assert "13 of 13 runs are left: about 0 h 53 min" in said and 12 * 200 + 13 * 60 == 53 * 60
    assert estimate(args, plan_timings(args), plan_runs(args)) == 0
    assert "0 of 13 runs are left" in capsys.readouterr().out


def test_the_page_has_tables_base_machine_versions_and_command(args, command):
    measure_sam(args, "python recipes/studies/sam_worth.py --budget 3", command())
    page = (args.output_dir + "/" + PAGE, open(args.output_dir + "/" + PAGE).read())[1]
    for words in (
        "# What sam-vit-base adds",
        "## What SAM adds (topolora less detail_only)",
        "| synthetic | 5 | +0.0000 ± 0.0000 |",
        "| dataset | labels | paper | topolora | detail_only |",
        "| synthetic | none | 0.500 | – | – |",
        "Base: facebook/sam-vit-base. Data sets: synthetic (the Hub).",
        "Versions: topolora_hf ",
        "Command: python recipes/studies/sam_worth.py --budget 3",
    ):
        assert words in page, words


def test_a_budget_ends_the_command_and_the_same_command_goes_on(args, command, capsys):
    args.budget = 2 / 3600
    names = [job.name for job in plan_runs(args)]
    failed = measure_sam(args, "", command(**{names[3]: "sleep 60"}))
    assert not failed and "The budget of 0.000555556 h ends before that" in capsys.readouterr().out
    states = [job.state for job in plan_runs(args)]
    assert states == 3 * [State.DONE] + [State.INTERRUPTED] + 9 * [State.TO_DO]
    args.budget = None
    measure_sam(args, "", command())
    assert {job.state for job in plan_runs(args)} == {State.DONE}
    assert (plan_runs(args)[0].directory / "times.txt").read_text() == "once\n"
    args.max_steps = 200
    with pytest.raises(ValueError, match="max_steps was 100, is 200"):
        measure_sam(args, "", command())


def test_nothing_is_trained_where_a_network_cannot_be_timed(args, command):
    broken = plan_timings(args)[1]
    failed = measure_sam(args, "", command(**{broken.name: "echo no memory; exit 1"}))
    assert [job.name for job in failed] == [broken.name]
    assert {job.state for job in plan_runs(args)} == {State.TO_DO}


@pytest.mark.usefixtures("no_pictures")
def test_steps_are_timed_and_nothing_is_trained_to_its_end(crosses, tmp_path):
    few = "tile_size=48 image_size=64 batch_size=1 num_workers=0 mixed_precision=no".split()
    args = SamWorthArguments(datasets=["crosses"], data_dirs=[f"crosses={crosses}"], base="tiny-random", set=few)
    args.num_threads, args.output_dir = 1, str(tmp_path / "worth")
    job = plan_timings(args)[0]
    job.directory.mkdir(parents=True)
    write_json(job.directory / "job.json", asdict(job.arguments))
    worker.run_worker(job.command, job.directory / "job.json")
    timed = json.loads((job.directory / METRICS).read_text())
    assert timed["images"] == 1 and 0 < timed["seconds_per_step"] < 5 and timed["seconds_per_image"] > 0
    assert not (job.directory / "adapter").exists()
