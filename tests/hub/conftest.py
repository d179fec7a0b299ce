"""A Hub on loopback, and processes that know no other."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .server import TOKEN, HubServer

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def hub_server():
    server = HubServer()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def hub(hub_server):
    """The Hub, empty."""
    hub_server.reset()
    return hub_server


@pytest.fixture(scope="session")
def warm(hub_server, tmp_path_factory):
    """A process of `warm.py`, and its home: the caches of the Hub's libraries."""
    home = tmp_path_factory.mktemp("home")
    own = {"HF_ENDPOINT": hub_server.url, "HF_HOME": str(home), "XDG_CACHE_HOME": str(home), "OMP_NUM_THREADS": "1"}
    own |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(ROOT)}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    command = [sys.executable, str(Path(__file__).with_name("warm.py"))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=kept | own, **pipes) as process:
        yield process, home
        process.stdin.close()


@pytest.fixture
def fresh_process(hub, warm, tmp_path):
    """`fresh_process("code" | ["script.py", ...], token=TOKEN)`: runs it with empty caches; returns the process."""

    def run(command: str | list[str], token: str | None = TOKEN) -> subprocess.CompletedProcess:
        process, home = warm
        shutil.rmtree(home)
        home.mkdir()
        words = ["-c", command] if isinstance(command, str) else command
        files = {name: str(tmp_path / f"{name}.txt") for name in ("output", "errors")}
        request = {"words": words, "folder": str(tmp_path), "token": token, **files}
        print(json.dumps(request), file=process.stdin, flush=True)
        status = int(process.stdout.readline())
        return subprocess.CompletedProcess(words, status, *(Path(file).read_text() for file in files.values()))

    return run
