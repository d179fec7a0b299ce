"""Every file of a data set looked at once, before hours of training depend on it."""

import logging
import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .decode import decode_image, decode_mask
from .errors import DataError
from .records import UNSPLIT, Record, Splits

logger = logging.getLogger(__name__)

NO_MASK = "no mask"
UNREADABLE_IMAGE = "unreadable image"
UNREADABLE_MASK = "unreadable mask"
UNREADABLE_VIEW = "unreadable field of view"
OTHER_SIZE = "image and mask differ in size"


@dataclass(frozen=True)
class RowCheck:
    """What one row's files turned out to be.

    Attributes:
        problems: Pairs of a kind (`NO_MASK`, ...) and the name or sentence to report under it.
        has_foreground: The mask was read and is not empty.
    """

    problems: tuple[tuple[str, str], ...]
    has_foreground: bool


def check_record(record: Record, data_dir: Path) -> RowCheck:
    """Decodes all files of a row: a truncated file only shows when it is decoded."""
    problems: list[tuple[str, str]] = []
    arrays = {}
    for kind, path, decode in (
        (UNREADABLE_IMAGE, record.image, decode_image),
        (UNREADABLE_MASK, record.mask, decode_mask),
        (UNREADABLE_VIEW, record.valid_mask, decode_mask),
    ):
        if path is None:
            continue
        try:
            arrays[kind] = decode(path, _relative(path, data_dir))
        except DataError as error:
            problems.append((kind, str(error)))
    if record.mask is None:
        problems.append((NO_MASK, _relative(record.image, data_dir)))
    image = arrays.get(UNREADABLE_IMAGE)
    for kind, path in ((UNREADABLE_MASK, record.mask), (UNREADABLE_VIEW, record.valid_mask)):
        if image is not None and kind in arrays and arrays[kind].shape != image.shape[:2]:
            sizes = [f"{array.shape[1]}x{array.shape[0]}" for array in (image, arrays[kind])]
            names = [_relative(file, data_dir) for file in (record.image, path)]
            problems.append((OTHER_SIZE, f"{names[0]} is {sizes[0]}, {names[1]} is {sizes[1]}"))
    mask = arrays.get(UNREADABLE_MASK)
    return RowCheck(tuple(problems), mask is not None and bool(mask.any()))


def check_rows(splits: Splits, data_dir: Path, *, skip_bad: bool = False) -> Splits:
    """Checks all rows of a data set and reports everything that is wrong with it at once.

    Args:
        splits: The rows of each split, as a reader lists them.
        data_dir: The data set's folder; names in the report are relative to it.
        skip_bad: Leave rows with a problem out, with a warning that names them.

    Returns:
        The splits without the rows left out.

    Raises:
        DataError: Rows have a problem and `skip_bad` is False, a split has no usable row, or no mask to train on
            has any foreground. The message lists every file.
    """
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:  # image libraries release the GIL
        checks = {
            split: list(pool.map(lambda record: check_record(record, data_dir), records))
            for split, records in splits.items()
        }
    report = _report(checks)
    if report and not skip_bad:
        raise DataError(f"{data_dir}: {report}\nskip_bad (--skip_bad) leaves these rows out.")
    if report:
        logger.warning("%s: left out: %s", data_dir, report)
    good = {
        split: [pair for pair in zip(records, checks[split], strict=True) if not pair[1].problems]
        for split, records in splits.items()
    }
    for split, pairs in good.items():
        if not pairs:
            raise DataError(f"{data_dir}: {split} has no usable row left. {report}")
    _require_foreground(good, data_dir)
    return {split: [record for record, _ in pairs] for split, pairs in good.items()}


def _report(checks: dict[str, list[RowCheck]]) -> str:
    """All problems grouped by kind, with every name; empty when there is none."""
    groups: dict[str, list[str]] = defaultdict(list)
    rows = [check for split in checks.values() for check in split]
    for check in rows:
        for kind, text in check.problems:
            groups[kind].append(text)
    if not groups:
        return ""
    bad = sum(bool(check.problems) for check in rows)
    lines = [f"\n  {kind} ({len(texts)}): {', '.join(texts)}" for kind, texts in groups.items()]
    return f"{bad} of {len(rows)} rows cannot be used:{''.join(lines)}"


def _require_foreground(good: dict[str, list[tuple[Record, RowCheck]]], data_dir: Path) -> None:
    """A single empty mask is an honest negative; a training set of nothing else is a mistake."""
    trained_on = next((split for split in ("train", UNSPLIT) if split in good), None)
    for split in [trained_on] if trained_on else good:
        if not any(check.has_foreground for _, check in good[split]):
            masks = ", ".join(_relative(record.mask, data_dir) for record, _ in good[split] if record.mask)
            raise DataError(f"{data_dir}: no mask of {split} has any foreground: {masks}")


def _relative(path: Path, data_dir: Path) -> str:
    return path.relative_to(data_dir).as_posix()
