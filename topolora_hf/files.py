"""Files and folders that this package writes: whole or not at all, with errors that name them; and JSON objects."""

import csv
import io
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_MOST_BYTES = 2**20  # settings of an adapter take about a kilobyte


def read_json_object(file: str | Path, most_bytes: float = _MOST_BYTES) -> dict:
    """Reads a JSON object.

    Args:
        file: Settings, of this package or of strangers.
        most_bytes: Of a longer file nothing is read; `math.inf` for one that this package wrote and that grows.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is too long, is not JSON in UTF-8, or is nested too deeply; the message names it.
    """
    file = Path(file)
    if file.stat().st_size > most_bytes:
        raise ValueError(f"{file} has {file.stat().st_size:,} bytes; settings have at most {most_bytes:,}")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not a JSON file: {error}") from error
    except RecursionError as error:
        raise ValueError(f"{file} is not a JSON file of settings: it is nested too deeply") from error
    if not isinstance(values, dict):
        raise ValueError(f"{file} must hold an object, got {type(values).__name__}")
    return values


def output_folder(path: str | Path) -> Path:
    """Makes the folder where there is none.

    Raises:
        OSError: It cannot be made or written to; the message names it and says why.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(f"output_dir {path} is a file; a folder is needed") from error
    except OSError as error:
        raise OSError(f"output_dir {path} cannot be made ({error.strerror}): choose another") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise PermissionError(f"output_dir {path} may not be written to; choose another")
    return path


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path`, which becomes `path` when all went well: whoever finds the file finds all of it.

    Content and name are flushed to the disk, so that the file also survives a power cut.

    Raises:
        OSError: It could not be written, as on a full disk; the message names the file, of which nothing is left.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(3)}.tmp")  # others may write it, too
    try:
        yield temporary
        flush(temporary)
        os.replace(temporary, path)
        flush(path.parent)
    except OSError as error:
        raise OSError(error.errno, f"cannot write the file ({error.strerror or error})", str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Flushes to the disk what a file holds, or which names a directory holds: a rename alone does not."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
