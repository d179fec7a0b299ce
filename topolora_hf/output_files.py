"""Folders and files that are written: whole or not at all, with errors that name them."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
