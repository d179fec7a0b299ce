"""Sets whose official archive has no split folders: the lists that divide them, and how rows are found by them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import DataError
from ..records import (
    ReadOptions,
    Record,
    Splits,
    refuse_incomplete,
)


def read_listed(
    data_dir: Path, images: Mapping[str, Path], masks: Mapping[str, Path], options: ReadOptions, layout: str
) -> tuple[Splits, list[str]]:
    """The rows of each split's list.

    Args:
        data_dir: The archive's folder, for errors.
        images: Path by id, of the images that are there.
        masks: Likewise.
        options: The lists, and whether some of their rows may be missing.
        layout: What the archive should look like, for errors.

    Returns:
        The splits that have any complete row, and a sentence if some are not complete.

    Raises:
        DataError: Rows are missing and that is not allowed, or none is there.
    """
    kinds = {"image": images, "mask": masks}
    complete = images.keys() & masks.keys()
    splits = {
        split: [Record(row_id, images[row_id], masks[row_id]) for row_id in ids if row_id in complete]
        for split, ids in options.lists.items()
    }
    expected = [row_id for ids in options.lists.values() for row_id in ids]
    missing = [
        f"{row_id} ({' and '.join(kind for kind, files in kinds.items() if row_id not in files)})"
        for row_id in expected
        if row_id not in complete
    ]
    problems = []
    if missing:
        problems.append(f"{len(expected) - len(missing)} of {len(expected)} rows (missing: {', '.join(missing)})")
        if not (options.skip_bad and any(splits.values())):
            raise refuse_incomplete(data_dir, problems, layout)
    return {split: records for split, records in splits.items() if records}, problems


def divide_by_lists(splits: Splits, lists: Mapping[str, Sequence[str]]) -> Splits | None:
    """Rows of a copy with another layout, divided by the official lists; None if the lists name other ids."""
    by_id = {record.id: record for records in splits.values() for record in records}
    if not lists or {row_id for ids in lists.values() for row_id in ids} != by_id.keys():
        return None
    return {split: [by_id[row_id] for row_id in ids] for split, ids in lists.items()}


def by_unique_id(pairs: Sequence[tuple[str, Path]]) -> dict[str, Path]:
    """Path by id; an id that two files share is an error."""
    found: dict[str, Path] = {}
    for row_id, path in pairs:
        if row_id in found:
            raise DataError(f"{found[row_id]} and {path} are the same row; keep one of them")
        found[row_id] = path
    return found
