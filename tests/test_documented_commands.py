"""Each documented command is one that its program accepts: every flag and value is parsed, nothing is run."""

import re
import runpy
import shlex
import sys
from dataclasses import fields
from importlib import import_module
from itertools import chain
from pathlib import Path

import pytest
from transformers import HfArgumentParser

from topolora_hf import cli

PROJECT = Path(__file__).resolve().parent.parent
PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *(PROJECT / "docs").rglob("*.md")]
PAGES += (PROJECT / "topolora_hf/bases").glob("*/README.md")
RECIPES = [*(PROJECT / "recipes").glob("*.py"), *(PROJECT / "recipes/studies").glob("*.py")]
RECIPES += (PROJECT / "recipes/configs").rglob("*.yaml")
OURS = re.compile(r"((python|accelerate launch)\b.* (recipes/\S+\.py|-m topolora_hf\.cli)|topolora (?!COMMAND)\w+) ")
# Of Accelerate, pip, pytest and make.
OTHERS = {"--config_file", "--num_processes", "--cpu", "--machine_rank", "--constraint", "--help", "--editable"}


def commands_of(page: Path) -> list[list[str]]:
    """The commands of the page's indented lines, its text and its comments, as a shell splits them; none cut short."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)  # of other commits
    lines = re.findall(r"^(?: {4}|# )?((?:topolora|python|accelerate) .+)$", text, flags=re.MULTILINE)
    lines += re.findall(r"`([^`]+)`", text)
    commands = [
        shlex.split(line, comments=True) for line in map(" ".join, map(str.split, lines)) if OURS.match(line + " ")
    ]
    return [words for words in commands if not {"...", "--help"} & set(words) and len(words) > 2]


COMMANDS = [(page, words) for page in sorted(PAGES + RECIPES) for words in commands_of(page)]


def known_flags() -> set[str]:
    """Every flag of every command, and of the recipes."""
    commands = [
        getattr(import_module(f"topolora_hf.commands.{name}"), arguments)
        for name, (arguments, _) in cli.COMMANDS.items()
    ]
    names = {item.name for arguments in commands for item in fields(arguments)}
    for file in (PROJECT / "recipes").rglob("*.py"):
        names |= set(re.findall(r"^    (\w+): .+ = option\(", file.read_text(encoding="utf-8"), flags=re.MULTILINE))
    return {f"--{prefix}{name}" for name in names for prefix in ("", "no_")}


class Parsed(Exception):
    """Raised where a command would have begun its work."""


@pytest.fixture
def parse(monkeypatch):
    """`parse(words)`: the command line as its program parses it; raises what the program would say."""
    parse_really = HfArgumentParser.parse_args_into_dataclasses

    def parse_alone(self, *args, **kwargs):
        monkeypatch.setattr(HfArgumentParser, "parse_args_into_dataclasses", parse_really)  # a study parses more
        parse_really(self, *args, **kwargs)
        raise Parsed

    def parse_words(words):
        monkeypatch.setattr(
            HfArgumentParser, "parse_args_into_dataclasses", parse_alone
        )  # also SettingsParser's parent
        monkeypatch.chdir(PROJECT)
        with pytest.raises(Parsed):
            if words[0] == "topolora" or "topolora_hf.cli" in words:
                first = 0 if words[0] == "topolora" else words.index("topolora_hf.cli")
                monkeypatch.setattr(sys, "argv", words[first:])
                cli.main()
            else:
                recipe = next(place for place, word in enumerate(words) if word.endswith(".py"))
                monkeypatch.setattr(sys, "argv", words[recipe:])
                runpy.run_path(words[recipe], run_name="__main__")

    return parse_words


def test_the_pages_have_commands_of_every_kind():
    recipes = {Path(word).stem for _, words in COMMANDS for word in words if word.endswith(".py")}
    assert {"train", "pretrain_tiny", "compare", "ablate", "cross_dataset", "few_labels", "backbones"} <= recipes
    assert {words[1] for _, words in COMMANDS if words[0] == "topolora"} == set(cli.COMMANDS)


@pytest.mark.parametrize(
    "page, words", COMMANDS, ids=[f"{page.stem}-{' '.join(words)[:60]}" for page, words in COMMANDS]
)
def test_command_is_accepted(page, words, parse):
    parse(words)


@pytest.mark.parametrize("page", sorted(set(PAGES)), ids=lambda page: page.relative_to(PROJECT).as_posix())
def test_flags_in_the_text_exist(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^ {4}.*$", "", text, flags=re.MULTILINE)
    flags = set(chain.from_iterable(re.findall(r"(?<!\S)--[a-z]\w+", code) for code in re.findall(r"`([^`]+)`", text)))
    assert flags - OTHERS - known_flags() == set()
