"""The notebooks' code runs as it stands, offline; the images are small here and the steps few."""

import json
import os
import re
from pathlib import Path

import pytest
from PIL import Image

from topolora_hf.training import setup

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "recipes" / "notebooks"


@pytest.fixture
def run(tmp_path, monkeypatch, no_pictures):
    """`run(name, **settings)`: what the notebook's variables are at its end; `settings` replace some of its first."""
    photograph = Image.open(ROOT / "docs/images/chase_db1_01L.jpg").crop((300, 300, 560, 560))
    (tmp_path / "docs/images").mkdir(parents=True)
    photograph.save(tmp_path / "docs/images/chase_db1_01L.jpg")
    folder = tmp_path / "recipes/notebooks"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(setup, "usable_cores", lambda: 1)

    def execute(name: str, **settings) -> dict:
        cells = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
        codes = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        for setting, value in settings.items():
            codes[0], count = re.subn(rf"^{setting} = .*$", f"{setting} = {value!r}", codes[0], flags=re.MULTILINE)
            assert count == 1, setting
        variables = {"__name__": "__main__"}
        for number, code in enumerate(codes):
            exec(compile(code, f"{name}, code cell {number}", "exec"), variables)
        return variables

    return execute


def test_a_folder_is_predicted(run):
    variables = run("predict_a_folder")
    assert sorted(os.listdir("masks")) == ["chase_db1_01L_mask.png", "chase_db1_01L_overlay.png", "foreground.csv"]
    assert 0.01 < variables["table"]["foreground"][0] < 0.5


def test_five_labels_give_an_adapter(run):
    variables = run("five_labels_on_a_cpu", STEPS=2, TEST_IMAGES=1)
    assert len(os.listdir("wide_vessels/train/masks")) == 5
    assert (variables["metrics"]["n"], variables["metrics"]["steps"]) == (1, 2)
    assert variables["prediction"].mask.shape == (256, 256)


def test_a_centreline_is_measured(run):
    variables = run("measure_a_centreline", MILLIMETRES_PER_PIXEL=0.01)
    drawn = variables["line"]
    assert (drawn["branch_points"], drawn["end_points"], drawn["segments"]) == (1, 3, 3)
    assert drawn["length"] == pytest.approx(100 + 24, abs=2)
    pixels = variables["prediction"].totals["foreground"]
    assert variables["numbers"]["length"] == pytest.approx(pixels["length"] / 100) and pixels["length"] > 100
    assert len(variables["segments"]) == pixels["segments"]
    assert Path("centreline.json").is_file() and Path("centreline.png").is_file()


@pytest.mark.parametrize("file", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda file: file.stem)
def test_notebooks_are_stored_without_outputs(file):
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
