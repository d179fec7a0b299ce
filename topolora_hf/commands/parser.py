"""Command lines from settings dataclasses: flags in groups, or one settings file; near-misses are suggested."""

import argparse
from copy import copy
from dataclasses import Field
from pathlib import Path

import yaml
from transformers import HfArgumentParser

from ..settings import GROUPS, did_you_mean
from .sources import MADE_FROM

_NO_VALUE = ("", "~", "null", [])  # how a settings file says that the default stands
_FOR_ARGPARSE = ("help", "aliases", "choices")


class SettingsParser(HfArgumentParser):
    """`HfArgumentParser` for fields made by `settings.option`.

    Flags are listed by group. A flag must be given in full. A boolean is `--flag`, `--flag False` or `--no_flag`. A
    settings file (YAML or JSON) may come first.
    """

    def __init__(self, dataclass_types, **kwargs):
        self._groups = {}
        super().__init__(dataclass_types, allow_abbrev=False, formatter_class=_HelpFormatter, **kwargs)
        self._action_groups.sort(key=lambda group: GROUPS.index(group.title) if group.title in GROUPS else -1)

    def parse_args_into_dataclasses(self, args=None, **kwargs) -> tuple:
        return super().parse_args_into_dataclasses(args and expand_settings_file(list(args)), **kwargs)

    def parse_known_args(self, args=None, namespace=None):
        for word in args or ():
            flag = word.partition("=")[0]
            if flag.startswith("--") and flag != "--" and flag not in self._option_string_actions:
                known = [name for name in self._option_string_actions if name.startswith("--")]
                self.error(f"unknown flag {flag}{did_you_mean(flag, known)}")
        if args and not args[0].startswith("-"):
            self.error(f"unexpected {args[0]!r}: every value follows its flag")
        namespace, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unexpected {rest[0]!r}: it is one value too many")
        return namespace, rest

    def error(self, message: str):
        """Raise `ValueError`: the command line turns it into an exit status."""
        raise ValueError(f"{message} (see {self.prog} --help)")

    def _parse_dataclass_field(self, parser, field: Field):
        title = field.metadata.get("group")
        if title is not None:
            parser = self._groups[title] = self._groups.get(title) or self.add_argument_group(title)
        field = copy(field)
        field.metadata = {name: value for name, value in field.metadata.items() if name in _FOR_ARGPARSE}
        super()._parse_dataclass_field(parser, field)
        flag = self._option_string_actions[f"--{field.name}"]
        if field.type in (bool, bool | None):
            flag.nargs, flag.const = "?", True
            opposite = self._option_string_actions.get(f"--no_{field.name}") or parser.add_argument(
                f"--no_{field.name}", f"--no-{field.name.replace('_', '-')}", action="store_false", dest=field.name
            )
            opposite.help = argparse.SUPPRESS  # the flag's own line names it


class _HelpFormatter(argparse.HelpFormatter):
    """One name and the kind of value a flag; defaults that are not None; `--[no_]flag` for booleans."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=32, width=120)

    def _format_action_invocation(self, action) -> str:
        if not action.option_strings or isinstance(action, argparse._HelpAction):
            return super()._format_action_invocation(action)
        if action.const is True:
            return f"--[no_]{action.dest}"
        values = self._format_args(action, action.dest.upper() if action.choices else action.type.__name__.upper())
        return f"{action.option_strings[0]} {values}"

    def _get_help_string(self, action) -> str:
        text = action.help or ""
        if action.required:
            return f"{text} (required)"
        default = " ".join(map(str, action.default)) if isinstance(action.default, list) else action.default
        return text if default in (None, False, argparse.SUPPRESS, "") else f"{text} (default: {default})"

    def _format_usage(self, usage, actions, groups, prefix) -> str:
        required = "".join(f" {self._format_action_invocation(action)}" for action in actions if action.required)
        return f"usage: {self._prog} [settings.yaml]{required} [--flag value ...]\n\n"


def expand_settings_file(flags: list[str]) -> list[str]:
    """Replace a leading YAML or JSON file by the flags that it lists. Flags after it win."""
    if not flags or not flags[0].endswith((".yaml", ".yml", ".json")):
        return flags
    try:
        # Every value stays the text that it is, as on a command line: `mixed_precision: no` is not False.
        settings = yaml.load(Path(flags[0]).read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{flags[0]} is not a YAML or JSON file: {error}") from error
    listed = []
    for name, value in settings.items() if isinstance(settings, dict) else [("", None)]:
        values = value if isinstance(value, list) else [value]
        if name == MADE_FROM:  # which predict_args.json and measure_args.json hold besides the settings
            continue
        if not all(isinstance(item, str) for item in values):
            raise ValueError(f"{flags[0]} must hold one setting a line (name: value){f', not {name}' if name else ''}")
        listed += [f"--{name}", *values] if value not in _NO_VALUE else []
    return [*listed, *flags[1:]]
