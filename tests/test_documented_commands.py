"""Each command of the pages is one that its recipe accepts: every flag and value is parsed as from a command line."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from topolora_hf import cli
from topolora_hf.commands.parser import SettingsParser

PROJECT = Path(__file__).resolve().parent.parent
PAGES = ["README.md", "docs/results/README.md", "docs/results/first-tiny.md", "docs/choices.md"]
PAGES += ["docs/faults.md", "docs/faults_reading.md"]
PAGES += [f"topolora_hf/bases/{base}/README.md" for base in ("tiny", "tiny-regions")]
OURS = re.compile(r"((python|accelerate launch).* recipes/|topolora ).* --")


class Parsed(Exception):
    """Raised where a command would have begun its work."""


def commands_of(page: str) -> list[list[str]]:
    """The commands with flags in the page's indented blocks and its text, as a shell splits them; none cut short."""
    text = (PROJECT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^ {4}(.+)$", text, flags=re.MULTILINE) + re.findall(r"`([^`\n]+)`", text)
    commands = [shlex.split(line, comments=True) for line in lines if OURS.match(line)]
    return [words for words in commands if not {"...", "--help"} & set(words)]


COMMANDS = [(page, words) for page in PAGES for words in commands_of(page)]


def test_the_pages_have_commands_of_every_kind():
    recipes = {Path(word).stem for _, words in COMMANDS for word in words if word.endswith(".py")}
    assert {"train", "score", "convert", "pretrain_tiny", "compare", "ablate", "cross_dataset", "few_labels"} <= recipes
    assert sum(words[0] == "topolora" for _, words in COMMANDS) > 5


@pytest.mark.parametrize("page, words", COMMANDS, ids=[" ".join(words)[:60] for _, words in COMMANDS])
def test_command_is_accepted(page, words, monkeypatch):
    parse = SettingsParser.parse_args_into_dataclasses

    def parse_alone(self, *args, **kwargs):
        monkeypatch.setattr(SettingsParser, "parse_args_into_dataclasses", parse)  # a study parses its settings, too
        parse(self, *args, **kwargs)
        raise Parsed

    monkeypatch.setattr(SettingsParser, "parse_args_into_dataclasses", parse_alone)
    monkeypatch.chdir(PROJECT)
    with pytest.raises(Parsed):
        if words[0] == "topolora":
            monkeypatch.setattr(sys, "argv", words)
            cli.main()
        recipe = next(place for place, word in enumerate(words) if word.endswith(".py"))
        monkeypatch.setattr(sys, "argv", words[recipe:])
        runpy.run_path(words[recipe], run_name="__main__")
