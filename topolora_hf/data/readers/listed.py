"""Sets that published lists divide: rows are found by their id."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ..archives import find_folder
from ..errors import DataError
from ..records import ReadOptions, Record, Splits, describe_contents, list_images, refuse_incomplete


def read_listed(
    data_dir: Path, files: Mapping[str, Mapping[str, Path]], options: ReadOptions, layout: str
) -> tuple[Splits, list[str]]:
    """Find the rows of each split's list.

    Args:
        data_dir: The archive's folder, for errors.
        files: For "image", "mask" and, if every row has one, "field of view": path by id, of what is there.
        options: The lists, and whether some of their rows may be missing.
        layout: What the archive should look like, for errors.
    """
    splits = {
        split: [
            Record(row_id, *(paths[row_id] for paths in files.values())) for row_id in ids if _in_all(row_id, files)
        ]
        for split, ids in options.lists.items()
    }
    missing = [
        f"{row_id} ({' and '.join(kind for kind, paths in files.items() if row_id not in paths)})"
        for ids in options.lists.values()
        for row_id in ids
        if not _in_all(row_id, files)
    ]
    expected = sum(map(len, options.lists.values()))
    problems = [f"{expected - len(missing)} of {expected} rows (missing: {', '.join(missing)})"] if missing else []
    if problems and not (options.skip_bad and any(splits.values())):
        raise refuse_incomplete(data_dir, problems, layout)
    return {split: records for split, records in splits.items() if records}, problems


def _in_all(row_id: str, files: Mapping[str, Mapping[str, Path]]) -> bool:
    return all(row_id in paths for paths in files.values())


def divide_by_lists(splits: Splits, lists: Mapping[str, Sequence[str]]) -> Splits | None:
    """Divide the rows of a copy with another layout by the official lists; None if the lists name other ids."""
    by_id = {record.id: record for records in splits.values() for record in records}
    if not lists or {row_id for ids in lists.values() for row_id in ids} != by_id.keys():
        return None
    return {split: [by_id[row_id] for row_id in ids] for split, ids in lists.items()}


def by_id(paths: Iterable[Path], name: Callable[[Path], str | None]) -> dict[str, Path]:
    """The paths by the id that `name` gives them; those without one are left out.

    Raises:
        DataError: Two files have the same id.
    """
    found: dict[str, Path] = {}
    for path in paths:
        row_id = name(path)
        if row_id in found:
            raise DataError(f"{found[row_id]} and {path} are the same row; keep one of them")
        if row_id is not None:
            found[row_id] = path
    return found


def numbered(folder: Path | None, pattern: str, row_id: str) -> dict[str, Path]:
    """The images in a folder whose names begin with a pattern for a number, by `row_id` with that number."""
    return by_id(
        list_images(folder) if folder else (),
        lambda path: row_id.format(int(found[1])) if (found := re.match(pattern, path.name, re.IGNORECASE)) else None,
    )


def require_folders(data_dir: Path, names: Sequence[str], title: str, layout: str) -> list[Path]:
    """The sub-folders of these names.

    Raises:
        DataError: One is not there.
    """
    folders = [find_folder(data_dir, name) for name in names]
    if None in folders:
        raise DataError(f"{data_dir} is not {title}. Expected:\n{layout}\nFound: {describe_contents(data_dir)}")
    return folders
