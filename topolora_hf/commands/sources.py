"""What results were made with and from: those of other settings, or of another file of the same name, are not kept."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from pathlib import Path

from ..data.records import some
from ..files import quick_digest, read_json_object
from ..settings import changed_settings

MADE_FROM = "made_from"


def content_of(path: str | Path) -> str | None:
    """Tell a file, or the settings and weights of an adapter's folder, from others; None if it cannot be read.

    By size and three parts of 64 KiB, so that a large raster costs no more than a small one.
    """
    path = Path(path)
    return quick_digest(sorted([*path.glob("*.safetensors"), *path.glob("*.json")]) if path.is_dir() else [path])


def checked_note(
    note: Path,
    args,
    free: Collection[str],
    results: str,
    sources: Mapping[str, Path],
    is_there: Callable[[str], bool],
    foreign: Path | None,
) -> dict:
    """With which settings, and from which file and adapter, a folder's results are made: what its note has to say.

    Args:
        note: The file that says so; one that is there is of the results before.
        args: The settings (a dataclass with `adapter` and `overwrite`).
        free: Those that change no result.
        results: What they are, for messages.
        sources: The name of each result that is asked for, and the file that it is made from.
        is_there: Whether there is a result of a name.
        foreign: A result that is there, if there is one: without a note something else made it.

    Raises:
        ValueError: A result that would stay is of other settings, of another file of the same name, of another
            adapter, or of something else.
    """
    before = read_json_object(note, float("inf")) if note.exists() else None
    known = (before or {}).get(MADE_FROM, {})
    changed = changed_settings(before, args, free) if before is not None else []
    if others := changed and [name for name in known if name not in sources and is_there(name)]:
        raise ValueError(
            f"{note.parent} holds {results} of other images ({some(others)}), made with other settings "
            f"({'; '.join(changed)}): choose another output_dir"
        )
    way_out, kept = "choose another output_dir, or replace them with --overwrite", []
    if not args.overwrite:
        kept = [name for name in sources if is_there(name)]
        if changed:
            changes = "; ".join(changed)
            raise ValueError(f"{note.parent} holds {results} made with other settings ({changes}): {way_out}")
        if before is None and foreign is not None:
            raise ValueError(f"{foreign} was not made by this command ({note} is missing): {way_out}")
    of_adapter = {"adapter": content_of(args.adapter)} if args.adapter else {}
    made_from: dict[str, dict] = {
        name: {"file": str(file), "content": content_of(file), **of_adapter} for name, file in sources.items()
    }
    for name in kept:
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
    return settings | {MADE_FROM: known | made_from}


def _differ(before: str | None, now: str | None) -> bool:
    """Whether both are known, and another."""
    return None not in (before, now) and before != now
