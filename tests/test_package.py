"""What holds for the package as a whole."""

import subprocess
import sys
from importlib.metadata import entry_points, version

import topolora_hf


def test_public_classes_name_the_package_as_their_module():
    """PEFT writes this into published adapters, so moving a file must not change it."""
    for name in topolora_hf.__all__:
        public = getattr(topolora_hf, name)
        if isinstance(public, type):
            assert public.__module__ == "topolora_hf", name


def test_version_and_command_are_those_of_the_installed_package():
    assert version("topolora_hf") == topolora_hf.__version__
    (command,) = (entry for entry in entry_points(group="console_scripts") if entry.name == "topolora")
    assert command.load().__module__ == "topolora_hf.cli"


def test_everything_works_where_torchvision_cannot_be_imported():
    code = """
import sys
sys.modules["torchvision"] = None
import numpy as np
from topolora_hf import AdapterSettings, Predictor, TopoSamForSegmentation, create_adapter
network = create_adapter(TopoSamForSegmentation.from_pretrained("topolora_hf/tiny", image_size=64, tile_size=64))
settings = AdapterSettings(base="topolora_hf/tiny", image_size=64, tile_size=64)
print(Predictor(network, settings)(np.zeros((80, 50, 3), np.uint8)).mask.shape)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "(80, 50)", done.stderr
