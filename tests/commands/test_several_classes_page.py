"""The how-to page of several classes: its commands run, in order, from a folder to masks with a legend."""

import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from topolora_hf import cli, load_segmentation_data
from topolora_hf.synthetic import draw_synthetic

PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/several-classes.md"
SMALL = "--batch_size 1 --tile_size 64 --image_size 64 --num_workers 0 --num_threads 1"


@pytest.fixture
def user(tmp_path, monkeypatch):
    """A folder as on the page: photographs, and maps of arteries and veins."""
    monkeypatch.chdir(tmp_path)
    for folder in ("images", "masks"):
        Path("path/to/retinas", folder).mkdir(parents=True)
    Path("path/to/photographs").mkdir()
    for number in range(4):
        sample = draw_synthetic(number, size=64, kinds=["arteries_veins"])
        picture = Image.fromarray(sample["image"])
        picture.save(f"path/to/retinas/images/{number:02d}.png")
        picture.save(f"path/to/photographs/{number:02d}.png")
        Image.fromarray(sample["mask"][0] + 2 * sample["mask"][1]).save(f"path/to/retinas/masks/{number:02d}.png")
    return tmp_path


def run(command):
    sys.argv = shlex.split(command)
    cli.main()


def test_the_page_leads_from_a_folder_to_masks_with_a_legend(user, monkeypatch):
    monkeypatch.setattr(sys, "argv", [])
    section = PAGE.read_text(encoding="utf-8").split("## What marks a class")[0]
    describe, train, predict = re.findall(r"^ {4}(topolora .+)$", section, flags=re.MULTILINE)
    run(describe)
    values = json.loads(Path("description/description.json").read_text())["values"]
    assert [values[value]["taken_for"] for value in "0123"] == ["background", "artery", "vein", "artery and vein"]
    run(re.sub(r"--max_steps \d+", f"--max_steps 2 {SMALL}", train))
    metrics = json.loads(Path("runs/av/metrics.json").read_text())
    assert list(metrics["classes"]) == ["artery", "vein"]
    run(predict)
    assert Path("predictions/00_overlay.png").is_file() and Path("predictions/00_mask_vein.png").is_file()
    Path("predictions/images").mkdir()
    for path in Path("predictions").glob("??_mask.png"):  # the masks are data again
        Path("path/to/photographs", f"{path.name[:2]}.png").rename(f"predictions/images/{path.name[:2]}.png")
    lines = [f"images/{number:02d}.png,{number:02d}_mask.png\n" for number in range(4)]
    Path("predictions/corrected.csv").write_text("image,mask\n" + "".join(lines))
    data = load_segmentation_data("predictions/corrected.csv", classes="predictions/classes.json")
    assert data.labels == ("artery", "vein") and not data.exclusive
    rows = [row for rows in data.values() for row in rows]
    for place, name in enumerate(data.labels):
        written = [np.asarray(Image.open(f"predictions/{row['id']}_mask_{name}.png")) > 0 for row in rows]
        assert all((row["mask"][place] == mask).all() for row, mask in zip(rows, written, strict=True))
