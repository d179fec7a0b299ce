"""Claims on run directories: several commands may share a list of runs, and no two do the same run."""

import os
import socket
from pathlib import Path

import psutil
from filelock import FileLock

from topolora_hf.files import read_json_object, write_json

_LOCK, _JUDGING = "lock.json", ".judging"


class Claim:
    """A run directory that this process has taken; see `take_claim`."""

    def __init__(self, path: Path):
        self.path = path

    def share_with(self, pid: int) -> None:
        """Keep the claim as long as this process or that one lives: a run outlives the command that started it."""
        write_json(self.path, {"host": socket.gethostname(), "pids": [os.getpid(), pid]})

    def release(self) -> None:
        self.path.unlink(missing_ok=True)


def take_claim(directory: Path) -> Claim | None:
    """Take a directory (made when missing); return None if somebody else holds it.

    A lock file names a host and processes. If they are of this host and have all ended, the lock is taken over. Whether
    processes of another host live cannot be seen from here: such a lock stays until somebody removes it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / _LOCK
    with FileLock(directory / _JUDGING):  # on this host, one process at a time judges, removes and makes locks
        if path.exists() and holder(directory) is None:
            path.unlink(missing_ok=True)
        return Claim(path) if _create(path) else None


def holder(directory: Path) -> str | None:
    """Name who holds a directory; None if nobody does any more.

    Raises:
        ValueError: The lock file has another form; the message names it.
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
    if lock["host"] == socket.gethostname() and not any(map(psutil.pid_exists, lock["pids"])):
        return None
    return f"process {lock['pids'][-1]} on {lock['host']} (if it is no more, remove {path})"


def _create(path: Path) -> bool:
    """Make the lock file, whole from its first moment (by a hard link); False if there is one."""
    own = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    write_json(own, {"host": socket.gethostname(), "pids": [os.getpid()]})
    try:
        os.link(own, path)
    except FileExistsError:
        return False
    finally:
        own.unlink()
    return True
