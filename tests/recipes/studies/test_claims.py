import multiprocessing
import os
import socket

import pytest

from engine import claims
from engine.claims import holder, take_claim
from topolora_hf.files import write_json


def write_lock(directory, host: str, *pids: int) -> None:
    directory.mkdir()
    write_json(directory / "lock.json", {"host": host, "pids": pids})


def test_a_directory_has_one_holder_until_it_is_released(tmp_path):
    claim = take_claim(tmp_path / "run")
    assert f"process {os.getpid()} on" in holder(tmp_path / "run")
    assert take_claim(tmp_path / "run") is None
    claim.release()
    assert holder(tmp_path / "run") is None
    assert take_claim(tmp_path / "run") is not None


def test_a_claim_of_dead_processes_is_taken_over(tmp_path, dead_process):
    write_lock(tmp_path / "run", socket.gethostname(), dead_process)
    assert holder(tmp_path / "run") is None
    assert take_claim(tmp_path / "run") is not None
    assert f"process {os.getpid()} on" in holder(tmp_path / "run")


def test_a_claim_stands_while_the_process_that_it_was_shared_with_lives(tmp_path, dead_process):
    write_lock(tmp_path / "run", socket.gethostname(), dead_process, os.getpid())
    assert take_claim(tmp_path / "run") is None


def test_a_lock_made_while_another_is_looked_for_stands(tmp_path, monkeypatch):
    """Somebody claims the directory between the look at it and the claim."""
    exists = claims.Path.exists

    def late(path):
        seen = exists(path)
        if path.name == "lock.json" and not seen:
            write_json(path, {"host": socket.gethostname(), "pids": [os.getppid()]})
        return seen

    monkeypatch.setattr(claims.Path, "exists", late)
    assert take_claim(tmp_path / "run") is None
    assert f"process {os.getppid()} on" in holder(tmp_path / "run")


def test_a_claim_of_another_host_stands(tmp_path, dead_process):
    write_lock(tmp_path / "run", "elsewhere", dead_process)
    assert take_claim(tmp_path / "run") is None
    assert "elsewhere" in holder(tmp_path / "run") and "lock.json" in holder(tmp_path / "run")


@pytest.mark.parametrize(
    ("text", "said"),
    [("[]", "lock.json must hold an object, got list"), ('{"pid": 3}', "lock.json is not a lock file")],
)
def test_a_lock_file_of_another_form_is_named(tmp_path, text, said):
    (tmp_path / "lock.json").write_text(text)
    with pytest.raises(ValueError, match=said):
        holder(tmp_path)


def _take(directory, barrier, taken) -> None:
    barrier.wait()
    claim = take_claim(directory)
    barrier.wait()  # nobody dies before all have tried
    taken.put(claim is not None)


def test_of_processes_that_find_a_stale_claim_together_one_takes_it_over(tmp_path, dead_process):
    context = multiprocessing.get_context("fork")
    for attempt in range(5):
        directory = tmp_path / str(attempt)
        write_lock(directory, socket.gethostname(), dead_process)
        barrier, taken = context.Barrier(4), context.Queue()
        processes = [context.Process(target=_take, args=(directory, barrier, taken)) for _ in range(4)]
        for process in processes:
            process.start()
        assert sum(taken.get(timeout=30) for _ in processes) == 1
        for process in processes:
            process.join()
