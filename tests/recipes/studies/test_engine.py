import json
import os

import pytest

from engine.claims import take_claim
from engine.engine import run_jobs
from engine.jobs import State

WAIT_FOR = "for _ in $(seq 400); do [ -e ../{other}/here ] && echo '{{}}' > metrics.json && exit 0; sleep 0.05; done"


def times(job) -> int:
    return len((job.directory / "times.txt").read_text().split())


def test_jobs_are_done_once(make_job, shell):
    jobs = [make_job("first"), make_job("second", seed=1)]
    run_jobs([jobs[:1]], command=shell())
    run_jobs([[job] for job in jobs], command=shell())
    run_jobs([[job] for job in jobs], command=shell("exit 1"))
    assert [times(job) for job in jobs] == [1, 1]
    assert [job.state for job in jobs] == [State.DONE, State.DONE]
    assert json.loads((jobs[1].directory / "job.json").read_text())["seed"] == 1


def test_a_failed_job_says_why_and_stops_only_its_chain(make_job, shell):
    bad, after, other = (make_job(name) for name in ("bad", "after", "other"))
    line = "echo trying; printf 'out of luck\\n\\n' >&2; exit 3"
    run_jobs([[bad, after], [other]], command=shell(bad=line))
    assert [job.state for job in (bad, after, other)] == [State.FAILED, State.TO_DO, State.DONE]
    assert json.loads((bad.directory / "failed.json").read_text()) == {"exit_status": 3, "message": "out of luck"}
    assert (bad.directory / "log.txt").read_text().startswith("trying\n")
    run_jobs([[bad, after]], command=shell())
    assert [job.state for job in (bad, after)] == [State.DONE, State.DONE]


def test_a_job_that_fails_after_its_scores_is_not_done(make_job, shell):
    job = make_job("late")
    run_jobs([[job]], command=shell("echo '{}' > metrics.json; exit 1"))
    assert job.state == State.FAILED


def test_a_job_that_failed_after_its_scores_and_was_interrupted_since_is_not_done(make_job, shell):
    job = make_job("late")
    run_jobs([[job]], command=shell("echo '{}' > metrics.json; exit 1"))
    with pytest.raises(KeyboardInterrupt):
        run_jobs([[job]], command=lambda job: (_ for _ in ()).throw(KeyboardInterrupt()))
    assert job.state == State.INTERRUPTED


def test_a_job_that_ends_well_without_scores_has_failed(make_job, shell):
    job = make_job("silent")
    run_jobs([[job]], command=shell("true"))
    assert job.state == State.FAILED


def test_a_chain_keeps_its_order(make_job, shell):
    trained, scored = make_job("trained"), make_job("trained/on-other")
    run_jobs([[trained, scored]], slots=2, command=shell(**{"trained/on-other": "cp ../metrics.json ."}))
    assert scored.state == State.DONE


def test_as_many_jobs_run_at_once_as_there_are_slots(make_job, shell):
    """Each waits until it sees the other."""
    jobs = [make_job("left"), make_job("right")]
    lines = {"left": "touch here; " + WAIT_FOR.format(other="right")}
    lines["right"] = "touch here; " + WAIT_FOR.format(other="left")
    run_jobs([[job] for job in jobs], slots=2, command=shell(**lines))
    assert [job.state for job in jobs] == [State.DONE, State.DONE]


def test_threads_are_told_to_the_process(make_job, shell):
    job = make_job("run")
    run_jobs([[job]], threads=3, command=shell("echo $OMP_NUM_THREADS"))
    assert (job.directory / "log.txt").read_text() == "3\n"


def test_ctrl_c_reaches_a_job_through_the_engine_alone(make_job, shell):
    """The terminal interrupts a whole process group; a run that gets a second signal ends without a checkpoint."""
    job = make_job("run")
    run_jobs([[job]], command=shell("ps -o pgid= -p $$"))
    assert int((job.directory / "log.txt").read_text()) != os.getpgrp()


def test_a_job_that_another_command_has_is_left_to_it_with_what_follows(make_job, shell, capsys):
    taken, after, free = (make_job(name) for name in ("taken", "after", "free"))
    claim = take_claim(taken.directory)
    run_jobs([[taken, after], [free]], command=shell())
    assert [job.state for job in (taken, after, free)] == [State.RUNNING, State.TO_DO, State.DONE]
    assert "taken: left to process" in capsys.readouterr().out
    claim.release()
    run_jobs([[taken, after], [free]], command=shell())
    assert [times(job) for job in (taken, after, free)] == [1, 1, 1]


def test_interrupted_it_ends_what_it_started_and_does_not_call_that_a_failure(make_job, shell):
    running, next_one = make_job("running"), make_job("next")

    def command(job):
        if job is next_one:
            raise KeyboardInterrupt
        return shell("exec sleep 600")(job)

    with pytest.raises(KeyboardInterrupt):
        run_jobs([[running], [next_one]], slots=2, command=command)
    assert running.state == State.INTERRUPTED
    run_jobs([[running], [next_one]], command=shell())
    assert [job.state for job in (running, next_one)] == [State.DONE, State.DONE]
