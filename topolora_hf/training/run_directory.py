"""The files of a run, each written whole or not at all."""

import csv
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path


def write_json(path: Path, values: Mapping) -> None:
    """Writes JSON under a temporary name, then renames it: no reader sees half a file. NaN becomes null."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(_without_nan(values), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def write_history(path: Path, rows: Sequence[Mapping]) -> None:
    """One row a log point; columns are the union of all rows' keys, empty where a row has none."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(temporary, path)


def read_json(path: Path) -> dict:
    """Reads a JSON object; FileNotFoundError or ValueError names the file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file: {error}") from error


def _without_nan(value):
    if isinstance(value, Mapping):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
