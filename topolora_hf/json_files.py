"""JSON objects from files of others."""

import json
from pathlib import Path

_MOST_BYTES = 2**20  # settings of an adapter take about a kilobyte


def read_json_object(file: str | Path) -> dict:
    """Reads a JSON object.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is longer than a mebibyte, is not JSON in UTF-8, or is nested too deeply; the message names it.
    """
    file = Path(file)
    if file.stat().st_size > _MOST_BYTES:
        raise ValueError(f"{file} has {file.stat().st_size:,} bytes; settings have at most {_MOST_BYTES:,}")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not a JSON file: {error}") from error
    except RecursionError as error:
        raise ValueError(f"{file} is not a JSON file of settings: it is nested too deeply") from error
    if not isinstance(values, dict):
        raise ValueError(f"{file} must hold an object, got {type(values).__name__}")
    return values
