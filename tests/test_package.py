"""What holds for the package as a whole."""

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
