"""Images one after the other: what is wrong with one stops no other, and how long the rest takes is said."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from ..data.errors import DataError

_SECONDS_BETWEEN = 60  # lines of progress of one image
Result = TypeVar("Result")


def for_each_image(
    work: Sequence[tuple[Path, Result]], act: Callable[[Path, Result, Callable[..., None]], None], verb: str
) -> list[str]:
    """Call `act` for every image file, what its result is called or where it goes, and a function that prints.

    Returns:
        What is wrong with those that could not be read, or are too large for memory: a line each.
    """
    problems = []
    bar = tqdm(work, desc=verb, disable=None)
    start = time.monotonic()
    for number, (file, result) in enumerate(bar):
        try:
            act(file, result, bar.write)
        except (DataError, FloatingPointError, MemoryError) as error:
            text = str(error) or "there is not enough memory"
            problems.append(text if text.startswith(str(file)) else f"{file}: {text}")
            continue
        if number == 0 and len(work) > 1:
            seconds = time.monotonic() - start
            bar.write(f"{seconds:.1f} s an image: about {duration(seconds * (len(work) - 1))} to go")
    return problems


def tell_progress(name: str, tell: Callable[[str], None]) -> Callable[[int, int, int], None]:
    """A function of the first row of this run, the rows that are done, and all: it tells of them once a minute."""
    began, told = time.monotonic(), [-math.inf]

    def progress(first: int, done: int, height: int) -> None:
        now = time.monotonic()
        if now - told[0] >= _SECONDS_BETWEEN and first < done < height:
            told[0], left = now, (now - began) / (done - first) * (height - done)
            before = f", {first:,} of them before" if first else ""
            tell(f"{name}: {done:,} of {height:,} rows{before}, about {duration(left)} to go")

    return progress


def duration(seconds: float) -> str:
    """A time in words.

    >>> duration(80), duration(600), duration(7200)
    ('80 s', '10 min', '2.0 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
