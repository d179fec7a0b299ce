"""What results were made with and from: those of other settings, or of another file of the same name, are not kept."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path

from ..files import read_json_object, write_json
from ..settings import changed_settings

_MADE_FROM = "made_from"
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


def note_results(
    note: Path,
    args,
    free: Collection[str],
    results: str,
    sources: Mapping[str, Path],
    done: Collection[str],
    foreign: Path | None,
    way_out: str,
) -> None:
    """Write with which settings, and from which file and adapter, a folder's results are made; or refuse.

    Args:
        note: The file that says so; one that is there is of the results before.
        args: The settings (a dataclass with `adapter` and `overwrite`).
        free: Those that change no result.
        results: What they are, for messages.
        sources: The name of each result, and the file that it is made from.
        done: Those of the names that are there and would be kept.
        foreign: A result that is there, if there is one: without a note something else made it.
        way_out: What to do about results of other settings and files, for messages.

    Raises:
        ValueError: A result that would be kept is of other settings, of another file of the same name, of another
            adapter, or of something else.
    """
    before = read_json_object(note, float("inf")) if note.exists() else None
    if not args.overwrite:
        if before is not None:
            if changed := "; ".join(changed_settings(before, args, free)):
                raise ValueError(f"{note.parent} holds {results} made with other settings ({changed}): {way_out}")
        elif foreign is not None:
            raise ValueError(f"{foreign} was not made by this command ({note} is missing): {way_out}")
    known = (before or {}).get(_MADE_FROM, {})
    of_adapter = {"adapter": content_of(args.adapter)} if args.adapter else {}
    made_from: dict[str, dict] = {
        name: {"file": str(file), "content": content_of(file), **of_adapter} for name, file in sources.items()
    }
    for name in done:
        was, now = known.get(name, {}), made_from[name]
        other = None
        if _differ(was.get("content"), now["content"]):
            is_changed = was["file"] == now["file"]
            other = f"{was['file']} as it was before" if is_changed else f"{was['file']}, not of {now['file']}"
        elif _differ(was.get("adapter"), now.get("adapter")):
            other = f"{args.adapter} as it was before"
        if other:
            raise ValueError(f"{note.parent} has results called {name} already, of {other}: {way_out}")
    settings = {name: value for name, value in asdict(args).items() if name not in free}
    write_json(note, settings | {_MADE_FROM: known | made_from})


def _differ(before: str | None, now: str | None) -> bool:
    """Whether both are known, and another."""
    return None not in (before, now) and before != now
