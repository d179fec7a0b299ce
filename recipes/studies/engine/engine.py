"""Runs jobs, each in a process of its own, as many at once as asked for."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.claims import Claim, holder, take_claim
from engine.jobs import FAILURE, LOG, METRICS, SETTINGS, Job, State
from topolora_hf.files import write_json

_POLL_SECONDS = 0.1
_STUDIES = str(Path(__file__).parents[1])  # where a job's process finds `engine` and `baselines`


def worker_command(job: Job) -> list[str]:
    """Build the command line that does a job, from the settings in its directory."""
    return [sys.executable, "-m", "engine.worker", job.command, str(job.directory / SETTINGS)]


@dataclass
class _Running:
    job: Job
    claim: Claim
    process: subprocess.Popen
    rest: list[Job]  # of its chain


def run_jobs(
    chains: Iterable[Sequence[Job]],
    slots: int = 1,
    threads: int = 1,
    command: Callable[[Job], list[str]] = worker_command,
    deadline: float | None = None,
) -> None:
    """Do what is not done yet; write into each job's directory how it ended.

    A job that fails ends its chain and nothing else. A job that another command is doing is left to it, with the rest
    of its chain. An interrupt ends the jobs that this call started; the next call goes on from there.

    Args:
        chains: Jobs that follow one another; chains run side by side.
        slots: How many jobs run at once.
        threads: CPU threads of each.
        command: The command line of a job.
        deadline: By `time.monotonic`; what then still runs is interrupted.
    """
    waiting = [list(chain) for chain in chains]
    total, running = sum(map(len, waiting)), []
    print(f"{total} jobs, {slots} at once, {threads} CPU threads each", flush=True)
    try:
        while waiting or running:
            if deadline is not None and time.monotonic() > deadline:
                print("the time is over: the same command goes on from here", flush=True)
                return
            while waiting and len(running) < slots:
                started = _start_next(waiting.pop(0), threads, command)
                running += [started] if started else []
            ended = [one for one in running if one.process.poll() is not None]
            for one in ended:
                running.remove(one)
                if _finish(one):
                    waiting.insert(0, one.rest)
            if not ended:
                time.sleep(_POLL_SECONDS)
    finally:
        for one in running:
            one.process.terminate()
            one.process.wait()
            one.claim.release()


def _start_next(chain: list[Job], threads: int, command: Callable[[Job], list[str]]) -> _Running | None:
    """Start the first job of a chain that is not done; None if there is none, or if somebody else has it."""
    for number, job in enumerate(chain):
        if job.state == State.DONE:
            continue
        claim = take_claim(job.directory)
        if claim is None:
            print(f"{job.name}: left to {holder(job.directory) or 'another command'}", flush=True)
            return None
        if job.is_done:  # by somebody else, since the state was read
            claim.release()
            continue
        try:
            process = _start(job, threads, command)
            claim.share_with(process.pid)
        except BaseException:
            claim.release()
            raise
        return _Running(job, claim, process, chain[number + 1 :])
    return None


def _start(job: Job, threads: int, command: Callable[[Job], list[str]]) -> subprocess.Popen:
    for name in (FAILURE, METRICS):  # a failed run may have left scores
        (job.directory / name).unlink(missing_ok=True)
    write_json(job.directory / SETTINGS, asdict(job.arguments))
    paths = os.pathsep.join(filter(None, [_STUDIES, os.environ.get("PYTHONPATH")]))
    # Progress bars would fill the log.
    own = {"OMP_NUM_THREADS": str(threads), "TQDM_MININTERVAL": "30", "PYTHONPATH": paths}
    with (job.directory / LOG).open("a", encoding="utf-8") as log:
        # A session of its own: Ctrl-C reaches only this command, which passes it on once. A second signal would end a
        # run in mid-step.
        process = subprocess.Popen(
            command(job), stdout=log, stderr=subprocess.STDOUT, env=os.environ | own, start_new_session=True
        )
    print(f"{job.name}: started", flush=True)
    return process


def _finish(one: _Running) -> bool:
    """Write down how a process ended; True if it did its job, which is to leave scores."""
    status = one.process.returncode
    succeeded = status == 0 and one.job.is_done
    if succeeded:
        print(f"{one.job.name}: done", flush=True)
    else:
        message = _last_line(one.job.directory / LOG)
        write_json(one.job.directory / FAILURE, {"exit_status": status, "message": message})
        print(f"{one.job.name}: failed with exit status {status}: {message}", flush=True)
    one.claim.release()
    return succeeded


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""
