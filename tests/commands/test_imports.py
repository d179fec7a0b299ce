"""What a fresh process imports: each library only where it is needed, so that nobody waits for it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import NOISE, save

HEAVY = ["torch", "peft", "transformers", "accelerate", "datasets", "pandas", "matplotlib", "monai", "gradio", "scipy"]


def imported(tmp_path, code: str) -> set[str]:
    """Which heavy libraries are there after this code, run as a new user would: outside of the project."""
    end = f"import json, sys; print('\\n' + json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    script = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\n{end}"
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


def test_describing_a_data_set_imports_neither_torch_nor_peft(tmp_path, folder):
    assert not imported(tmp_path, command("describe", "--dataset", folder)) & {"torch", "peft", "transformers.models"}
    assert (tmp_path / "description" / "contact_sheet.png").exists()


def test_prediction_imports_only_what_predicts(tmp_path):
    save(tmp_path / "a.png", NOISE)
    found = imported(tmp_path, command("predict", "--adapter", "tiny", "--images", "a.png"))
    assert found <= {"torch", "transformers", "accelerate", "scipy"}  # as `from transformers import SamModel` alone
    assert Path(tmp_path, "predictions", "a_mask.png").exists()
