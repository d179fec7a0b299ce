"""A Hub on loopback, and fresh processes that know no other."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .server import TOKEN, HubServer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def hub():
    server = HubServer()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def fresh_process(hub, tmp_path):
    """`fresh_process("code" | ["command", ...], token=TOKEN)`: runs it with an empty cache; returns the process."""
    count = 0

    def run(command: str | list[str], token: str | None = TOKEN, endpoint: str | None = None):
        nonlocal count
        count += 1
        command = [sys.executable, "-c", command] if isinstance(command, str) else [sys.executable, *command]
        own = {"HF_ENDPOINT": endpoint or hub.url, "HF_HOME": str(tmp_path / f"home{count}"), "OMP_NUM_THREADS": "1"}
        own |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(ROOT)}
        own |= {"XDG_CACHE_HOME": str(tmp_path / f"cache{count}")} | ({"HF_TOKEN": token} if token else {})
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        return subprocess.run(command, env=kept | own, cwd=tmp_path, capture_output=True, text=True, timeout=300)

    return run
