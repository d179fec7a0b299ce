"""The command lines: of the recipes, and of the installed `topolora` command."""

import io
import sys
from collections.abc import Callable

from .adapter_format.errors import AdapterMismatchError
from .commands.convert import ConvertArguments, convert
from .commands.describe import DescribeArguments, describe
from .commands.parser import SettingsParser
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
        (args,) = SettingsParser(arguments).parse_args_into_dataclasses(sys.argv[1:])
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
