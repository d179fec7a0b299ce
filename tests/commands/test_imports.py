"""What a fresh process imports: each library only where it is needed, so that nobody waits for it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import NOISE, save

HEAVY = ["torch", "peft", "transformers", "accelerate", "datasets", "pandas", "matplotlib", "monai", "gradio", "scipy"]
RATHER_HEAVY = ["evaluate", "skimage", "PIL"]


def imported(tmp_path, code: str, afterwards: str = "", heavy: list[str] = HEAVY) -> set[str]:
    """Which heavy libraries are there after this code, run as a new user would: outside of the project.

    `afterwards` runs next, in the same process. Neither can import torchvision.
    """
    start = f"import json, sys\nsys.modules['torchvision'] = None\ntry:\n    {code}\nexcept SystemExit:\n    pass\n"
    found = f"found = [name for name in {heavy} if name in sys.modules]\n"
    script = f"{start}{found}{afterwards}\nprint('\\n' + json.dumps(found))"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def command(*words) -> str:
    return f"sys.argv = ['topolora', *{list(map(str, words))}]; from topolora_hf.cli import main; main()"


@pytest.mark.parametrize("code", ["import topolora_hf", command("--help"), command("predcit")])
def test_the_package_and_the_list_of_commands_import_no_library(tmp_path, code):
    assert imported(tmp_path, code) == set()


@pytest.mark.parametrize(
    "words",
    [
        ("train", "--dataset", "x", "--max_step", "3"),
        ("predict", "--adapter", "tiny", "--images", "nowhere"),
        ("describe", "--dataset", "nowhere"),
    ],
)
def test_flags_and_wrong_folders_import_the_parser_alone(tmp_path, words):
    assert imported(tmp_path, command(*words)) <= {"transformers"}


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import topolora_hf.data.arguments", set()),
        ("import topolora_hf.training.arguments as a; a.TrainArguments(dataset='drive', base='tiny')", {"PIL"}),
        ("from topolora_hf.metrics import score_image", {"scipy", "skimage", "PIL"}),
        (
            "import topolora_hf.pictures.overlay, topolora_hf.pictures.samples, topolora_hf.pictures.plots",
            {"scipy", "PIL"},
        ),
    ],
)
def test_settings_scores_and_names_of_figures_import_no_more_than_they_need(tmp_path, code, allowed):
    assert imported(tmp_path, code, heavy=HEAVY + RATHER_HEAVY) <= allowed


def test_describing_a_data_set_imports_no_network_library(tmp_path, folder):
    found = imported(tmp_path, command("describe", "--dataset", folder))
    assert found <= {"transformers", "datasets", "pandas", "scipy"}, found
    assert (tmp_path / "description" / "contact_sheet.png").exists()


ADAPTED = """
import numpy as np
from topolora_hf import AdapterSettings, Predictor, TopoSamForSegmentation, create_adapter
network = create_adapter(TopoSamForSegmentation.from_pretrained("topolora_hf/tiny", image_size=64, tile_size=64))
settings = AdapterSettings(base="topolora_hf/tiny", image_size=64, tile_size=64)
assert Predictor(network, settings)(np.zeros((80, 50, 3), np.uint8)).mask.shape == (80, 50)
"""


def test_prediction_imports_only_what_predicts_and_an_adapter_works_without_torchvision_too(tmp_path):
    save(tmp_path / "a.png", NOISE)
    found = imported(tmp_path, command("predict", "--adapter", "tiny", "--images", "a.png"), afterwards=ADAPTED)
    assert found <= {"torch", "transformers", "accelerate", "scipy"}  # as `from transformers import SamModel` alone
    assert Path(tmp_path, "predictions", "a_mask.png").exists()
