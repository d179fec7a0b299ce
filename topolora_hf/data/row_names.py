"""Which row of a data set with named columns a file was: an export's files keep it, for errors."""

import functools
import json
from pathlib import Path

_FILE = ".rows.json"


def save_row_names(folder: Path, names: dict[Path, str]) -> None:
    """Notes which row each file is; `names` by the file's path in `folder`."""
    text = json.dumps({path.as_posix(): name for path, name in names.items()})
    (folder / _FILE).write_text(text, encoding="utf-8")


def name_with_row(path: Path, folder: Path) -> str:
    """The path in `folder`, if it lies there, and the row that it was, if it was one."""
    if not path.is_relative_to(folder):
        return str(path)
    name = path.relative_to(folder).as_posix()
    row = _row_names(folder).get(name)
    return f"{name} ({row})" if row else name


@functools.lru_cache(maxsize=8)
def _row_names(folder: Path) -> dict[str, str]:
    file = folder / _FILE
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
