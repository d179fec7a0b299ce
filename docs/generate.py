"""Write docs/reference/settings.md from the settings dataclasses of the commands.

    python docs/generate.py

Each setting of `topolora train` needs a line in `WHEN`: when a user should change it. A setting without one, and a line
without its setting, are errors.
"""

import sys
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from importlib import import_module
from pathlib import Path

from topolora_hf.cli import COMMANDS
from topolora_hf.settings import GROUPS

PAGE = Path(__file__).parent / "reference" / "settings.md"

WHEN: dict[str, str] = {}

_HEAD = """\
# Settings

<!-- Written by docs/generate.py: change the help of a field, or WHEN there, and run it again. -->

Each setting is a flag, `--name value`, or a line `name: value` of a settings file ([commands](commands.md#flags)).
A switch is `--name` to turn it on and `--no_name` to turn it off.
"""


def settings_page() -> str:
    """The page as it should be."""
    sections = [_HEAD]
    for command, (dataclass, _) in COMMANDS.items():
        arguments = getattr(import_module(f"topolora_hf.commands.{command}"), dataclass)
        sections.append(f"## topolora {command}\n")
        if command == "train":
            _check_lines({item.name for item in fields(arguments)})
            sections += _table_by_group(arguments)
        else:
            known = {item.name: item for item in fields(_train_arguments())}
            own = [item for item in fields(arguments) if not _is_same(item, known.get(item.name))]
            shared = [f"`{item.name}`" for item in fields(arguments) if _is_same(item, known.get(item.name))]
            sections.append(_table(own, None))
            if shared:
                sections.append(f"As for `topolora train`: {', '.join(shared)}.\n")
    return "\n".join(sections)


def _train_arguments() -> type:
    return getattr(import_module("topolora_hf.commands.train"), COMMANDS["train"][0])


def _is_same(item: Field, other: Field | None) -> bool:
    return other is not None and (item.metadata.get("help"), _default(item)) == (
        other.metadata.get("help"),
        _default(other),
    )


def _check_lines(names: set[str]) -> None:
    without, unknown = sorted(names - WHEN.keys()), sorted(WHEN.keys() - names)
    if without or unknown:
        raise ValueError(f"docs/generate.py: settings without a line in WHEN: {without}; lines without one: {unknown}")


def _table_by_group(arguments: type) -> Iterator[str]:
    by_group = {group: [item for item in fields(arguments) if item.metadata.get("group") == group] for group in GROUPS}
    for group, items in by_group.items():
        if items:
            yield f"### {group.capitalize()}\n"
            yield _table(sorted(items, key=lambda item: item.name != "dataset"), WHEN)


def _table(items: list[Field], when: dict[str, str] | None) -> str:
    """One line a setting: name, default, meaning, and when to change it."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    if when is not None:
        lines = ["| setting | default | meaning | when to change it |", "|---|---|---|---|"]
    for item in items:
        cells = [f"`{item.name}`", _default(item), _cell(item.metadata.get("help", ""))]
        lines.append("| " + " | ".join(cells + ([_cell(when[item.name])] if when is not None else [])) + " |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text[:1].upper() + text[1:].replace("|", "\\|").replace("<", "&lt;")


def _default(item: Field) -> str:
    if item.default is MISSING and item.default_factory is MISSING:
        return "required"
    default = item.default if item.default_factory is MISSING else item.default_factory()
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, (list, tuple)):
        return " ".join(map(str, default))
    return "" if default is None else f"`{default}`"


if __name__ == "__main__":
    try:
        PAGE.write_text(settings_page(), encoding="utf-8")
    except ValueError as error:
        sys.exit(f"error: {error}")
