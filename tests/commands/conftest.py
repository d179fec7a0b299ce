"""Commands in an empty working directory, run in this process; a small adapter and a small data set."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from topolora_hf import cli
from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.adapters.creation import create_adapter, save_adapter
from topolora_hf.network.segmenter import TopoSamForSegmentation

NOISE = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)  # one tile


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


@pytest.fixture(autouse=True)
def quick(one_thread):
    """Small networks are slower on several threads than on one."""


@pytest.fixture
def topolora(monkeypatch, tmp_path, capsys):
    """`topolora(*words)` -> exit status (0 if all went well), what was printed, and the errors."""
    monkeypatch.chdir(tmp_path)

    def run(*words) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["topolora", *map(str, words)])
        capsys.readouterr()
        status = 0
        try:
            cli.main()
        except SystemExit as exit:
            status = exit.code
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return SimpleNamespace(status=status, out=out, err=err)

    return run


@pytest.fixture(scope="session")
def adapter(tmp_path_factory, off_its_start):
    """An adapter off its start, whose predictions are neither all 0 nor all 1. Tests must not change it."""
    network = TopoSamForSegmentation.from_pretrained("topolora_hf/tiny-random", image_size=32, tile_size=48)
    model = off_its_start(create_adapter(network, "topolora"), 0.05)
    directory = tmp_path_factory.mktemp("adapter") / "small"
    save_adapter(model, AdapterSettings.of_network(network), directory)
    return directory


@pytest.fixture
def photos(tmp_path):
    """Three images, `photos/a.png` to `c.png` in the working directory."""
    for number, name in enumerate("abc"):
        save(tmp_path / "photos" / f"{name}.png", np.roll(NOISE, number, axis=0))
    return Path("photos")


@pytest.fixture
def folder(tmp_path):
    """Eight images with masks, `data/images/0.png` to `7.png`, beside their masks."""
    for number in range(8):
        mask = np.zeros((60, 70), np.uint8)
        mask[10 + 4 * number : 13 + 4 * number] = 255
        noise = np.random.default_rng(number).integers(0, 80, (60, 70, 3), dtype=np.uint8)
        save(tmp_path / "data" / "images" / f"{number}.png", noise + mask[..., None] // 2)
        save(tmp_path / "data" / "masks" / f"{number}.png", mask)
    return tmp_path / "data"


@pytest.fixture(scope="session")
def two_classes(tmp_path_factory, off_its_start):
    """As `adapter`, of arteries and veins, which overlap."""
    form = {"image_size": 32, "tile_size": 48, "num_labels": 2}
    network = TopoSamForSegmentation.from_pretrained("topolora_hf/tiny-random", **form)
    model = off_its_start(create_adapter(network, "topolora"), 0.1)
    directory = tmp_path_factory.mktemp("adapter") / "two"
    settings = AdapterSettings.of_network(network, labels=("artery", "vein"), threshold=(0.5, 0.6))
    save_adapter(model, settings, directory)
    return directory
