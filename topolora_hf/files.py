"""Files and folders that this package writes, whole or not at all; and JSON objects."""

import csv
import hashlib
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
_PART = 2**16  # bytes that `quick_digest` looks at, at the start, in the middle and at the end
_WINDOWS = os.name == "nt"


def read_json_object(file: str | Path, most_bytes: float = _MOST_BYTES) -> dict:
    """Read a JSON object: settings, of this package or of strangers.

    Raises:
        OSError: The file cannot be read.
        ValueError: It has more than `most_bytes`, is not JSON in UTF-8, or is nested too deeply; the message names it.
    """
    file = Path(file)
    if file.stat().st_size > most_bytes:
        raise ValueError(f"{file} has {file.stat().st_size:,} bytes; settings have at most {most_bytes:,}")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        problem = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise ValueError(f"{file} is not a JSON file of settings: {problem}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{file} must hold an object, got {type(values).__name__}")
    return values


def quick_digest(files: Sequence[Path]) -> str | None:
    """Tell files from others by their sizes and three parts of 64 KiB of each: a large one costs no more than a small.

    Returns None if there is none, or one cannot be read.
    """
    found = hashlib.blake2b(digest_size=16)
    try:
        for each in files:
            size = each.stat().st_size
            found.update(size.to_bytes(8, "little"))
            with each.open("rb") as file:
                for start in (0, max(0, size // 2 - _PART // 2), max(0, size - _PART)):
                    file.seek(start)
                    found.update(file.read(_PART))
    except OSError:
        return None
    return found.hexdigest() if files else None


def output_folder(path: str | Path) -> Path:
    """Make the folder if there is none.

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
    """Yield a temporary name beside `path`, which becomes `path` if all goes well. No reader sees half of a file.

    Content and name are flushed to the disk, so that the file also survives a power cut.

    Raises:
        OSError: The file cannot be written, as on a full disk. The message names it; nothing of it is left.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(3)}.tmp")  # others may write it, too
    try:
        yield temporary
        use_umask(temporary)
        flush(temporary)
        os.replace(temporary, path)
        flush(path.parent)
    except OSError as error:
        raise OSError(error.errno, f"cannot write the file ({error.strerror or error})", str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Flush to the disk what a file holds, or which names a directory holds: a rename alone does not."""
    if _WINDOWS and path.is_dir():  # cannot be opened there
        return
    descriptor = os.open(path, os.O_RDWR if _WINDOWS else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def use_umask(*files: Path) -> None:
    """Give files the rights that the user's umask says. safetensors writes its own 0600."""
    umask = os.umask(0)
    os.umask(umask)
    for file in files:
        file.chmod(0o666 & ~umask)


def write_file(path: Path, content: bytes) -> None:
    """Write a file as `whole_file` does: if it cannot be written, what was there before stays."""
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def replacing_directory(directory: Path) -> Iterator[Path]:
    """Yield a new directory to fill, which then takes the place of `directory`. If filling fails, the old one stays.

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
    new.mkdir(parents=True)
    try:
        yield new
        files = [path for path in new.rglob("*") if path.is_file()]
        use_umask(*files)
        for path in (*files, new):
            flush(path)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    if directory.exists():
        os.replace(directory, old)
    os.replace(new, directory)
    flush(directory.parent)
    shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, values: Mapping) -> None:
    """Write JSON as `write_file` does. NaN becomes null."""
    write_file(path, (json.dumps(_without_nan(values), indent=2, allow_nan=False) + "\n").encode())


def write_history(path: Path, rows: Sequence[Mapping]) -> None:
    """Write a CSV with the columns of all rows. A value that a row lacks, or NaN, is empty."""
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
