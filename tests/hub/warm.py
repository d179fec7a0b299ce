"""A process that has imported the libraries, with the Hub of its environment, and forks for each request.

A request is a line of JSON on standard input: `words` (as after `python`: "-c", code; or a script and its arguments),
`folder` to work in, `token` or null, `output` and `errors`, files to write. The answer is a line: the exit status.
"""

import gc
import json
import os
import runpy
import sys
import traceback

import datasets  # noqa: F401
import huggingface_hub  # noqa: F401
import matplotlib.backends.backend_agg  # noqa: F401
import peft  # noqa: F401
import torch  # noqa: F401
from transformers import SamModel  # noqa: F401

import topolora_hf.commands.predict  # noqa: F401
import topolora_hf.training.run  # noqa: F401


def _run(words: list[str]) -> None:
    if words[0] == "-c":
        exec(compile(words[1], "<code>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = words
        sys.path.insert(0, os.path.dirname(words[0]))
        runpy.run_path(words[0], run_name="__main__")


def _child(words: list[str], folder: str, token: str | None, output: str, errors: str) -> int:
    for number, path in ((1, output), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(folder)
    if token:
        os.environ["HF_TOKEN"] = token
    try:
        _run(words)
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    gc.freeze()  # what was imported stays
    for line in sys.stdin:
        child = os.fork()
        if not child:
            status = 1
            try:
                status = _child(**json.loads(line))
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(status)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
