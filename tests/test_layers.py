"""What imports what: the layers of the package, and modules that read an adapter's settings without a network."""

import subprocess
import sys

from importlinter.cli import lint_imports


def test_the_layers_hold(capsys):
    broken = lint_imports(config_filename="pyproject.toml", no_cache=True)
    assert broken == 0, capsys.readouterr().out


def test_settings_of_an_adapter_are_read_without_a_network():
    """The checks of its tensors need torch, and those of `adapter_config.json` PEFT, when they run."""
    code = """
import sys
from topolora_hf.adapter_format import errors, form, location, names, presets, settings, values
print(settings.AdapterSettings.from_pretrained(sys.argv[1]).base)
print(*{"torch", "peft", "transformers", "huggingface_hub", "httpx2"} & sys.modules.keys())
from topolora_hf.adapter_format import reading
print(*{"peft", "transformers", "huggingface_hub"} & sys.modules.keys())
"""
    words = [sys.executable, "-c", code, "topolora_hf/bases/tiny"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.stdout == "topolora_hf/tiny\n\n\n", done.stderr
