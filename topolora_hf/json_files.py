"""JSON objects from files."""

import json
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
