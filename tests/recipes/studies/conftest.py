"""Jobs whose command is a line of shell, so that no test of the engine has to train."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.arguments import RunArguments
from engine.jobs import Job

SUCCEED = """printf 'id,dice\\na,0.5\\n' > per_image.csv; echo '{"dice": 0.5}' > metrics.json; echo once >> times.txt"""


@pytest.fixture
def make_job(tmp_path):
    """`make_job(name, seed=0, **settings)`: a job below `tmp_path`, of method a."""

    def make(name: str, seed: int = 0, **settings) -> Job:
        arguments = RunArguments(dataset="synthetic", seed=seed, output_dir=str(tmp_path / name), **settings)
        return Job(name, "train", arguments, {"method": "a", "seed": seed})

    return make


@pytest.fixture
def shell():
    """`shell(line, **by_name)`: a command builder; jobs run the line (or their own) in their directory."""

    def command(line: str = SUCCEED, **by_name: str) -> Callable[[Job], list[str]]:
        return lambda job: ["sh", "-c", f"cd '{job.directory}'; {by_name.get(job.name, line)}"]

    return command


@pytest.fixture(scope="session")
def dead_process() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.fixture
def crosses(tmp_path) -> Path:
    """A folder data set, `images/` and `masks/`: seven images of 64 x 72 pixels with bright crosses."""
    folder = tmp_path / "crosses"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(7):
        rng = np.random.default_rng(number)
        mask = np.zeros((64, 72), np.uint8)
        y, x = rng.integers(8, 50, 2)
        mask[y : y + 3] = mask[:, x : x + 3] = 255
        image = rng.integers(0, 80, (64, 72, 3), dtype=np.uint8) + mask[..., None] // 2
        Image.fromarray(image).save(folder / "images" / f"{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    return folder
