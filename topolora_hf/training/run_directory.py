"""The files of a run, each written whole or not at all, and on the disk before anything relies on it."""

import csv
import io
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..output_files import flush, whole_file


def write_file(path: Path, content: bytes) -> None:
    """Writes a file as `whole_file` does: no reader, and no crash, sees half of it.

    Raises:
        OSError: the disk is full, the directory is gone or cannot be written to; what was there before stays.
    """
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def replacing_directory(directory: Path) -> Iterator[Path]:
    """A new directory to fill, which then takes the place of `directory`; when filling it fails, the old one stays.

    Between the two renames that put it in place, the old one lies beside it as `.NAME.old`.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "adapter"
        >>> with replacing_directory(target) as new:
        ...     _ = (new / "weights").write_bytes(b"1")
        >>> [file.name for file in target.iterdir()]
        ['weights']
    """
    new, old = (directory.with_name(f".{directory.name}.{ending}") for ending in ("tmp", "old"))
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    new.mkdir()
    try:
        yield new
        for path in new.rglob("*"):
            if path.is_file():
                flush(path)
        flush(new)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    if directory.exists():
        os.replace(directory, old)
    os.replace(new, directory)
    flush(directory.parent)
    shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, values: Mapping) -> None:
    """Writes JSON as `write_file` does. NaN becomes null."""
    text = json.dumps(_without_nan(values), indent=2, allow_nan=False) + "\n"
    write_file(path, text.encode())


def write_history(path: Path, rows: Sequence[Mapping]) -> None:
    """One row a log point; columns are the union of all rows' keys, empty where a row has none, or NaN."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_without_nan(rows))
    write_file(path, text.getvalue().encode())


def _without_nan(value):
    if isinstance(value, Mapping):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
