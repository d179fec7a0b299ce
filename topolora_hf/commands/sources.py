"""Which files results were made from: another of the same name, or one that was changed, is not taken for done."""

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path

from ..files import read_json_object

MADE_FROM = "made_from"
_PART = 2**16  # bytes that are looked at, at the start, in the middle and at the end


def content_of(path: str | Path) -> str | None:
    """Tell a file, or the settings and weights of an adapter's folder, from others; None if it cannot be read.

    By size and three parts of 64 KiB, so that a large raster costs no more than a small one.
    """
    path = Path(path)
    files = sorted([*path.glob("*.safetensors"), *path.glob("*.json")]) if path.is_dir() else [path]
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
    return found.hexdigest()


def note_sources(
    note: Path, files: Sequence[Path], names: Sequence[str], done: Collection[str], adapter: str | None, way_out: str
) -> dict[str, object]:
    """What to add to the note of a folder's settings: which file and adapter each result is made from.

    Args:
        note: The note that is there, or not.
        files: What results are made from.
        names: What the results are called.
        done: Those of `names` that are there and would be kept.
        adapter: The folder or name of the adapter; None without one.
        way_out: What to do about results of other files, for the message.

    Raises:
        ValueError: A result that would be kept is of another file of the same name, or of another adapter.
    """
    known = read_json_object(note, float("inf")).get(MADE_FROM, {}) if note.exists() else {}
    of_adapter = {"adapter": content_of(adapter)} if adapter else {}
    sources: dict[str, dict] = {
        name: {"file": str(file), "content": content_of(file), **of_adapter}
        for file, name in zip(files, names, strict=True)
    }
    for name in done:
        was, now = known.get(name, {}), sources[name]
        other = None
        if _differ(was.get("content"), now["content"]):
            is_changed = was["file"] == now["file"]
            other = f"{was['file']} as it was before" if is_changed else f"{was['file']}, not of {now['file']}"
        elif _differ(was.get("adapter"), now.get("adapter")):
            other = f"{adapter} as it was before"
        if other:
            raise ValueError(f"{note.parent} has results called {name} already, of {other}: {way_out}")
    return {MADE_FROM: known | sources}


def _differ(before: str | None, now: str | None) -> bool:
    """Whether both are known, and another."""
    return None not in (before, now) and before != now
