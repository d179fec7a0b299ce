"""Claims on run directories: several commands may share a list of runs, and no two do the same one."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from topolora_hf.files import read_json_object
from topolora_hf.files import write_json

_LOCK, _JUDGING = "lock.json", ".judging"


class Claim:
    """A run directory that this process has taken; see `take_claim`."""

    def __init__(self, path: Path):
        self.path = path

    def share_with(self, pid: int) -> None:
        """The claim then stands as long as this process or that one lives: a run outlives whoever started it."""
        write_json(self.path, {"host": socket.gethostname(), "pids": [os.getpid(), pid]})

    def release(self) -> None:
        self.path.unlink(missing_ok=True)


def take_claim(directory: Path) -> Claim | None:
    """Takes a directory (made when missing), or returns None where somebody else holds it.

    A lock file names host and processes. One whose processes have all ended, on this host, is taken over; whether those
    of another host live cannot be seen from here, so that lock stays until somebody removes it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / _LOCK
    with _alone_on_this_host(directory):
        if path.exists() and holder(directory) is None:
            path.unlink(missing_ok=True)
        return Claim(path) if _create(path) else None


def holder(directory: Path) -> str | None:
    """Who holds a directory, in words; None where nobody does any more.

    Raises:
        ValueError: The lock file is none; the message names it.
    """
    path = directory / _LOCK
    if not path.exists():
        return None
    try:
        lock = read_json_object(path)
    except FileNotFoundError:  # released since
        return None
    if not {"host", "pids"} <= lock.keys():
        raise ValueError(f"{path} is not a lock file: it must name host and pids, got {lock!r}")
    if lock["host"] == socket.gethostname() and not any(_is_alive(pid) for pid in lock["pids"]):
        return None
    return f"process {lock['pids'][-1]} on {lock['host']} (if it is no more, remove {path})"


@contextmanager
def _alone_on_this_host(directory: Path) -> Iterator[None]:
    """Only one process at a time may judge, remove and make locks; the system ends this when the process dies."""
    descriptor = os.open(directory / _JUDGING, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _create(path: Path) -> bool:
    """Makes the lock file, whole from its first moment (by a hard link); False where there is one."""
    own = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    write_json(own, {"host": socket.gethostname(), "pids": [os.getpid()]})
    try:
        os.link(own, path)
    except FileExistsError:
        return False
    finally:
        own.unlink()
    return True


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True
