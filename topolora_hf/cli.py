"""The `topolora` command. Here, and nowhere else, an error becomes an exit status."""

import io
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import NoReturn

from .settings import did_you_mean

COMMANDS = {
    "train": ("TrainArguments", "train an adapter, score it, and fill a run directory"),
    "predict": ("PredictArguments", "write the masks of images of any size"),
    "measure": ("MeasureArguments", "measure the lines of masks or images: graphs, lengths, widths, in real units"),
    "score": ("ScoreArguments", "score an adapter on a data set"),
    "describe": ("DescribeArguments", "say what a data set holds, and draw some of it"),
    "convert": ("ConvertArguments", "read and write other forms: .pth, .ckpt, a merged network, ONNX"),
    "push": ("PushArguments", "publish a trained adapter on the Hub"),
    "demo": ("DemoArguments", "serve a page on which adapters are tried (needs the extra `demo`)"),
}
"""By name: the settings dataclass in `topolora_hf.commands.NAME`, where a function of that name does the job."""


def main(command: str | None = None) -> None:
    """Run `topolora COMMAND ...`. A recipe gives the command and keeps its own name."""
    words, program = sys.argv[1:], os.path.basename(sys.argv[0])
    if command is None:
        command, *words = words or [""]
        if command in ("-h", "--help"):
            print("usage: topolora COMMAND [--flag value ...], with --help after a command for its flags\n")
            print("\n".join(f"  {name:10}{about}" for name, (_, about) in COMMANDS.items()))
            return
        if command not in COMMANDS:
            problem = f"unknown command {command!r}{did_you_mean(command, COMMANDS)}" if command else "no command given"
            fail(f"error: {problem} (commands: {', '.join(COMMANDS)})", 2)
        program = f"topolora {command}"
    module = import_module(f".commands.{command}", __package__)
    run_command(getattr(module, COMMANDS[command][0]), getattr(module, command), words, program)


def run_command(arguments: type, job: Callable, words: Sequence[str] | None = None, program: str | None = None) -> None:
    """Parse the words of a command line and do the job. End with a message where an error is foreseen.

    Exit statuses: 1 for an error, 2 for wrong settings, 128 and the signal's number for a run that was asked to stop.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names need not be Unicode
    try:
        from .commands.parser import SettingsParser

        parser = SettingsParser(arguments, prog=program)
        (settings,) = parser.parse_args_into_dataclasses(sys.argv[1:] if words is None else list(words))
    except (OSError, ValueError) as error:
        fail(f"error: {error}", 2)
    try:
        job(settings)
    except KeyboardInterrupt:
        fail("interrupted", 130)
    except Exception as error:
        from .adapter_format.errors import AdapterMismatchError

        foreseen = (AdapterMismatchError, FloatingPointError, ImportError, MemoryError, OSError, ValueError)
        if hasattr(error, "exit_status"):  # RunStopped
            fail(str(error), error.exit_status)
        if "closed by peer" in str(error):  # gloo's: another process has ended, and says why
            sys.exit(1)
        if not isinstance(error, foreseen) or getattr(error, "name", None):  # a failed import of ours has no name
            raise
        fail(f"error: {error}", 1)


def fail(message: str, status: int) -> NoReturn:
    """End the process with a message. A launcher of several processes quotes the file that it named."""
    if file := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        with open(file, "w", encoding="utf-8") as report:
            json.dump({"message": message, "timestamp": int(time.time())}, report)
    print(message, file=sys.stderr, flush=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
