"""The command lines: of the recipes, and of the installed `topolora` command."""

import io
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import yaml
from transformers import HfArgumentParser

from .adapter_format.errors import AdapterMismatchError
from .commands.convert import ConvertArguments, convert
from .commands.describe import DescribeArguments, describe
from .commands.predict import PredictArguments, predict
from .commands.push import PushArguments, push
from .commands.score import (
    GraderArguments,
    ScoreArguments,
    print_metrics,
    score,
    score_graders,
)
from .processes import process_state
from .training.arguments import TrainArguments
from .training.interruption import RunStopped
from .training.run import train

_NO_VALUE = ("", "~", "null")  # how a settings file says that the default stands


def train_main() -> None:
    """`recipes/train.py`."""
    run_command(TrainArguments, lambda args: _print_once(train(args)))


def predict_main() -> None:
    """`recipes/predict.py`."""
    run_command(PredictArguments, predict)


def describe_main() -> None:
    """`recipes/describe.py`."""
    run_command(DescribeArguments, describe)


def graders_main() -> None:
    """`recipes/graders.py`."""
    run_command(GraderArguments, score_graders)


def score_main() -> None:
    """`recipes/score.py`."""
    run_command(ScoreArguments, score)


def main() -> None:
    """`topolora predict ...`, and likewise the other commands."""
    commands = {"predict": predict_main, "score": score_main, "describe": describe_main}
    commands |= {"graders": graders_main, "push": push_main, "convert": convert_main}
    usage = f"usage: topolora {{{','.join(commands)}}} ... (each with --help)"
    if sys.argv[1:2] in (["-h"], ["--help"]):
        print(usage)
        sys.exit(0)
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        problem = f"unknown command {sys.argv[1]!r}" if len(sys.argv) > 1 else "no command given"
        print(f"{usage}\nerror: {problem}", file=sys.stderr)
        sys.exit(2)
    command = sys.argv.pop(1)
    sys.argv[0] = f"topolora {command}"
    commands[command]()


def run_command(arguments: type, job: Callable) -> None:
    """Parses flags and does the job; a foreseen error is a message, not a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names need not be Unicode
    try:
        (args,) = HfArgumentParser(arguments).parse_args_into_dataclasses(_expand_settings_file(sys.argv[1:]))
        job(args)
    except (AdapterMismatchError, FloatingPointError, ImportError, MemoryError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    except RunStopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(stopped.exit_status)


def convert_main() -> None:
    """`recipes/convert.py`."""
    run_command(ConvertArguments, convert)


def push_main() -> None:
    """`topolora push`."""
    run_command(PushArguments, push)


def _print_once(metrics: dict) -> None:
    """What one of several processes says for all."""
    if process_state().is_main_process:
        print_metrics(metrics)


def _expand_settings_file(flags: list[str]) -> list[str]:
    """A leading YAML or JSON file becomes the flags that it lists; flags after it win over them."""
    if not flags or not flags[0].endswith((".yaml", ".yml", ".json")):
        return flags
    try:
        # Every value stays the text that it is, as on a command line: `mixed_precision: no` is not False.
        settings = yaml.load(Path(flags[0]).read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{flags[0]} is not a YAML or JSON file: {error}") from error
    if not isinstance(settings, dict) or not all(map(_is_plain, settings.values())):
        raise ValueError(f"{flags[0]} must hold one setting a line (name: value)")
    listed = [
        [f"--{name}", *(value if isinstance(value, list) else [value])]
        for name, value in settings.items()
        if value not in _NO_VALUE
    ]
    return [*chain.from_iterable(listed), *flags[1:]]


def _is_plain(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))
