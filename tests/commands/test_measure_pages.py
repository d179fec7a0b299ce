"""The how-to pages of measuring: their commands run as they stand, and then their Python on the files."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from topolora_hf import cli
from topolora_hf.synthetic import draw_synthetic

PAGES = Path(__file__).resolve().parents[2] / "docs/how-to"


@pytest.mark.parametrize("name", ["vessels-to-a-table", "cracks-in-millimetres", "roads-to-a-geopackage"])
def test_the_page_runs_from_top_to_bottom(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("photographs", "masks", "rasters"):
        Path("path/to", folder).mkdir(parents=True)
    sample = draw_synthetic(0, size=96, kinds=["vessels"])
    Image.fromarray(sample["image"]).save("path/to/photographs/a.png")
    Image.fromarray(sample["mask"][0] * np.uint8(255)).save("path/to/masks/vessels.png")
    if name.startswith("roads"):
        rasterio = pytest.importorskip("rasterio")
        place = {"crs": "EPSG:32633", "transform": rasterio.Affine(2, 0, 500000, 0, -2, 5000000)}
        with rasterio.open("path/to/rasters/tile.tif", "w", "GTiff", 96, 96, 3, dtype="uint8", **place) as file:
            file.write(sample["image"].transpose(2, 0, 1))
    page = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    commands = re.findall(r"^ {4}(topolora .+)$", page, flags=re.MULTILINE)
    assert commands
    for command in commands:
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        cli.main()
    for block in re.findall(r"^```python\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE):
        exec(compile(block, name, "exec"), {})
