"""The Space, from a folder that holds what is uploaded and nothing else."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from huggingface_hub import SpaceCard

ROOT = Path(__file__).parents[2]
SPACE = ROOT / "hub_cards" / "space"


def pins(file: Path) -> dict[str, str]:
    """Versions by the packages' normalised names."""
    found = re.findall(r"^([\w.-]+)==(\S+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {name.lower().replace("_", "-"): version for name, version in found}


def test_its_card_says_what_the_hub_asks_for():
    data = SpaceCard.load(SPACE / "README.md").data
    assert (data.sdk, data.app_file, data.license) == ("gradio", "app.py", "apache-2.0")
    assert data.sdk_version == pins(ROOT / "constraints-demo.txt")["gradio"]
    assert data.python_version == "3.11" and len(data.short_description) <= 60
    assert data.colorFrom in (colours := {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"})
    assert data.colorTo in colours


def test_it_installs_what_was_tested_and_all_that_the_package_needs():
    tested, listed = pins(ROOT / "constraints-demo.txt"), pins(SPACE / "requirements.txt")
    assert {name: tested[name] for name in listed} == listed
    needs = re.search(r"^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
    names = {name.lower().replace("_", "-") for name in re.findall(r'"([\w-]+)', needs[1])}
    assert names | {"gradio"} == set(listed)


def test_the_page_is_tested_with_the_versions_of_all_else_but_pillow():
    everywhere, page = pins(ROOT / "constraints.txt"), pins(ROOT / "constraints-demo.txt")
    assert {name for name in everywhere.keys() & page.keys() if page[name] != everywhere[name]} == {"pillow"}


@pytest.fixture
def started(tmp_path, adapters):
    """The address of `python app.py` beside a copy of the package, as the Space starts it."""
    pytest.importorskip("gradio", reason="needs the package of extra `demo`")
    folder = tmp_path / "space"
    shutil.copytree(SPACE, folder)
    shutil.copytree(ROOT / "topolora_hf", folder / "topolora_hf", ignore=shutil.ignore_patterns("__pycache__"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"GRADIO_SERVER_PORT": str(port), "ADAPTERS": " ".join(adapters), "PYTHONPATH": ""}
    log = (tmp_path / "log").open("w+")
    process = subprocess.Popen([sys.executable, "app.py"], cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        yield _wait_for(f"http://127.0.0.1:{port}/", process, tmp_path / "log")
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def _wait_for(address: str, process: subprocess.Popen, log: Path) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(120):
        assert process.poll() is None, log.read_text()
        try:
            opener.open(address, timeout=5).close()
            return address
        except OSError:
            time.sleep(1)
    raise AssertionError(log.read_text())


def test_it_starts_and_segments(started, adapters, photograph):
    from gradio_client import Client, handle_file

    visitor = Client(started, verbose=False, analytics_enabled=False)
    for name in (adapters[1], "tiny"):
        _, _, numbers, files = visitor.predict(handle_file(str(photograph)), name, "mask", api_name="/see")
        assert "70 x 50 px" in numbers and len(files) == 5
