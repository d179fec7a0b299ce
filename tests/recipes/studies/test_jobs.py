import os
import socket
from dataclasses import asdict

import pytest

from engine.jobs import State, require_same_settings
from topolora_hf.files import write_json


def test_states_follow_from_the_files(make_job):
    job = make_job("run")
    assert job.state == State.TO_DO
    job.directory.mkdir()
    write_json(job.directory / "job.json", asdict(job.arguments))
    assert job.state == State.INTERRUPTED
    write_json(job.directory / "metrics.json", {"dice": 0.5})
    assert job.state == State.DONE
    write_json(job.directory / "failed.json", {"exit_status": 1})
    assert job.state == State.FAILED
    write_json(job.directory / "lock.json", {"host": socket.gethostname(), "pids": [os.getpid()]})
    assert job.state == State.RUNNING


def test_a_directory_of_other_settings_is_refused_and_named_with_the_difference(make_job):
    begun = make_job("run", max_steps=100)
    begun.directory.mkdir()
    write_json(begun.directory / "job.json", asdict(begun.arguments))
    require_same_settings([make_job("run", max_steps=100), make_job("other")])
    with pytest.raises(ValueError, match=r"run: max_steps was 100, is 200; batch_size was 4, is 2"):
        require_same_settings([make_job("run", max_steps=200, batch_size=2)])


def test_what_training_wrote_down_counts_before_what_it_was_told(make_job):
    job = make_job("run", max_steps=100)
    job.directory.mkdir()
    write_json(job.directory / "job.json", asdict(job.arguments))
    write_json(job.directory / "train_args.json", asdict(make_job("run", max_steps=5).arguments))
    with pytest.raises(ValueError, match="max_steps was 5, is 100"):
        require_same_settings([job])


def test_where_files_lie_and_how_many_threads_there_are_does_not_matter(make_job):
    job = make_job("run")
    job.directory.mkdir()
    write_json(job.directory / "job.json", asdict(make_job("moved", num_threads=7, num_workers=0).arguments))
    require_same_settings([job])


def test_a_setting_that_an_older_run_did_not_know_had_its_default(make_job):
    job = make_job("run")
    job.directory.mkdir()
    known = asdict(job.arguments)
    del known["train_images"]
    write_json(job.directory / "job.json", known)
    require_same_settings([job])
    with pytest.raises(ValueError, match="train_images was None, is 3"):
        require_same_settings([make_job("run", train_images=3)])
