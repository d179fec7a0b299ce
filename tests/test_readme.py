"""The README's Python blocks run as they stand, one after the other, beside a trained adapter; links lead to files."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory):
    """A run of the real command, as a user starts it: two optimizer steps on synthetic images, one process."""
    folder = tmp_path_factory.mktemp("user")
    command = [sys.executable, "-m", "accelerate.commands.launch", str(PROJECT / "recipes/train.py")]
    command += ["--dataset", "synthetic", "--base", "tiny", "--max_steps", "2", "--batch_size", "2"]
    command += ["--num_threads", "1", "--num_workers", "1", "--output_dir", "runs/drive", "--score_untrained", "False"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "runs/drive"


def test_accelerate_launch_fills_the_run_directory(run_directory):
    for name in (
        "adapter/adapter_model.safetensors",
        "adapter/adapter_config.json",
        "adapter/topolora_config.json",
        "adapter/README.md",
        "metrics.json",
        "per_image.csv",
        "history.csv",
        "curves.png",
        "samples.png",
        "train_args.json",
    ):
        assert (run_directory / name).stat().st_size > 0, name


def test_readme_python_blocks_run(run_directory, monkeypatch):
    user = run_directory.parent.parent
    monkeypatch.chdir(user)
    photograph = np.random.default_rng(0).integers(0, 255, (300, 280, 3), dtype=np.uint8)
    Image.fromarray(photograph).save("retina.png")
    blocks = re.findall(r"```python\n(.*?)```", (PROJECT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    names = {"__name__": "readme"}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    mask = np.asarray(Image.open("mask.png"))
    assert mask.shape == (300, 280)
    assert set(np.unique(mask)) <= {0, 255}


@pytest.mark.parametrize(
    "page",
    ["README.md", "docs/choices.md", "docs/results/README.md", "docs/results/first-tiny.md", "hub_cards/README.md"],
)
def test_links_of_the_pages_lead_to_files(page):
    page = PROJECT / page
    links = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    files = [link.split("#")[0] for link in links if "://" not in link]
    assert files
    for file in files:
        assert (page.parent / file).exists(), file
