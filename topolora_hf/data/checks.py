"""Every file of a data set looked at once, before hours of training depend on it."""

import hashlib
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from .errors import DataError
from .images.masks import binarise, decode_mask, read_mask_levels
from .images.pictures import read_picture
from .intensity import Numbers
from .records import ESTIMATED, UNSPLIT, Record, Splits

logger = logging.getLogger(__name__)

NO_MASK = "no mask"
UNREADABLE_IMAGE = "unreadable image"
UNREADABLE_MASK = "unreadable mask"
UNREADABLE_VIEW = "unreadable field of view"
OTHER_SIZE = "image and mask differ in size"
EMPTY_VIEW = "field of view shows nothing"
LEAK = "image that is in another split, too"
REPEATED = "image that is there twice, and could fall into two splits"

_NAMES_SHOWN = 5
# A copy is kept in the split that is scored, and left out of the one that is learnt from.
_KEEP_FIRST = ("test", "validation", "train", UNSPLIT)
_GREY_RANGE = (64, 191)  # values of a lossy mask that no noise around 0 and 255 explains
_GREY_SHARE = 0.01


@dataclass(frozen=True)
class RowCheck:
    """What one row's files turned out to be.

    Attributes:
        problems: Pairs of a kind (`NO_MASK`, ...) and the name or sentence to report under it.
        size: Width and height of the image, None if it cannot be read.
        foreground: Share of foreground pixels, None if the mask cannot be read.
        grey_levels: What the mask holds besides its two levels, in words; empty for a binary mask.
        fingerprint: Of the image's pixels.
        numbers: What the image's values are, None if it cannot be read.
    """

    problems: tuple[tuple[str, str], ...]
    size: tuple[int, int] | None = None
    foreground: float | None = None
    grey_levels: str = ""
    fingerprint: bytes = b""
    numbers: Numbers | None = None


@dataclass
class CheckReport:
    """What was found in a data set.

    Attributes:
        checks: One `RowCheck` a row, by split.
        problems: Why rows cannot be used: names by kind.
        warnings: Sentences on what may be a mistake.
        notes: Sentences on what is good to know.
        numbers: What the values of each usable image are.
    """

    checks: dict[str, list[RowCheck]]
    problems: dict[str, list[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    numbers: dict[Path, Numbers] = field(default_factory=dict)

    def sentences(self) -> list[str]:
        """Everything, most serious first."""
        return [*filter(None, [self.problem_text()]), *self.warnings, *self.notes]

    def problem_text(self) -> str:
        """All problems grouped by kind, with every name; empty when there is none."""
        if not self.problems:
            return ""
        rows = [check for split in self.checks.values() for check in split]
        bad = sum(bool(check.problems) for check in rows)
        lines = [f"\n  {kind} ({len(texts)}): {', '.join(texts)}" for kind, texts in self.problems.items()]
        return f"{bad} of {len(rows)} rows cannot be used:{''.join(lines)}"


def check_rows(
    splits: Splits,
    data_dir: Path,
    *,
    skip_bad: bool = False,
    cut_validation: bool = False,
    bands: Sequence[int] | None = None,
) -> tuple[Splits, CheckReport]:
    """Check all rows of a data set and report everything that is wrong with it at once.

    Args:
        splits: The rows of each split, as a reader lists them.
        data_dir: The data set's folder; names in the report are relative to it.
        skip_bad: Leave out rows with a problem, with a warning that names them.
        cut_validation: A validation split is still to be cut from train.
        bands: As for `decode_image`.

    Returns:
        The splits without the rows left out, and all that was found.

    Raises:
        DataError: Rows have a problem and `skip_bad` is False, a split has no usable row, or no mask to train on
            has any foreground. The message lists every file.
    """
    report = examine_rows(splits, data_dir, cut_validation, bands)
    text = report.problem_text()
    if text and not skip_bad:
        raise DataError(f"{data_dir}: {text}\nskip_bad (--skip_bad) leaves these rows out.")
    if text:
        logger.warning("%s: left out: %s", data_dir, text)
    for warning in report.warnings:
        logger.warning("%s: %s", data_dir, warning)
    for note in report.notes:
        logger.info("%s: %s", data_dir, note)
    good = {
        split: [pair for pair in zip(records, report.checks[split], strict=True) if not pair[1].problems]
        for split, records in splits.items()
    }
    for split, pairs in good.items():
        if not pairs:
            raise DataError(f"{data_dir}: {split} has no usable row left. {text}")
    _require_foreground(good, data_dir)
    return {split: [record for record, _ in pairs] for split, pairs in good.items()}, report


def examine_rows(
    splits: Splits, data_dir: Path, cut_validation: bool = False, bands: Sequence[int] | None = None
) -> CheckReport:
    """Decode every file of every row, and gather what is wrong or worth knowing."""
    to_divide = {UNSPLIT} | ({"train"} if cut_validation and "validation" not in splits else set())
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:  # image libraries release the GIL
        checks = {
            split: list(pool.map(lambda record: check_record(record, data_dir, bands), records))
            for split, records in splits.items()
        }
    repeats = _mark_copies(splits, checks, data_dir, to_divide)
    problems = defaultdict(list)
    for split_checks in checks.values():
        for check in split_checks:
            for kind, text in check.problems:
                problems[kind].append(text)
    report = CheckReport(checks, dict(problems))
    _remark(report, splits, data_dir, repeats)
    return report


def check_record(record: Record, data_dir: Path, bands: Sequence[int] | None = None) -> RowCheck:
    """Decode all files of a row: a truncated file only shows when it is decoded."""
    problems: list[tuple[str, str]] = []

    def read(kind: str, path: Path | str | None, decode):
        if path is None or path == ESTIMATED:
            return None
        try:
            return decode(path, _name(path, data_dir))
        except DataError as error:
            problems.append((kind, str(error)))
            return None

    picture = read(UNREADABLE_IMAGE, record.image, partial(read_picture, bands=bands))
    image = picture and picture.values
    mask_levels = read(UNREADABLE_MASK, record.mask, _read_mask)
    view = read(UNREADABLE_VIEW, record.valid_mask, decode_mask)
    if record.mask is None:
        problems.append((NO_MASK, _name(record.image, data_dir)))
    mask, levels = mask_levels if mask_levels else (None, "")
    for array, path in ((mask, record.mask), (view, record.valid_mask)):
        if image is not None and array is not None and array.shape != image.shape[:2]:
            sizes = [f"{shown.shape[1]}x{shown.shape[0]}" for shown in (image, array)]
            names = [_name(file, data_dir) for file in (record.image, path)]
            problems.append((OTHER_SIZE, f"{names[0]} is {sizes[0]}, {names[1]} is {sizes[1]}"))
    if view is not None and not view.any():
        problems.append((EMPTY_VIEW, _name(record.valid_mask, data_dir)))
    return RowCheck(
        tuple(problems),
        size=None if image is None else (image.shape[1], image.shape[0]),
        foreground=None if mask is None else float(mask.mean()),
        grey_levels=levels,
        fingerprint=b"" if image is None else _fingerprint(image),
        numbers=picture and picture.numbers,
    )


def _name(path: Path, folder: Path) -> str:
    """The path in `folder`, if it lies there."""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def _read_mask(path: Path, name: str) -> tuple[np.ndarray, str]:
    """A mask cut in two, and what it held besides two levels."""
    levels, is_lossy = read_mask_levels(path, name)
    try:
        mask = binarise(levels, is_lossy)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    if is_lossy:
        low, high = _GREY_RANGE
        share = float(((levels >= low) & (levels <= high)).mean())
        return mask, f"{share:.0%} of it between {low} and {high}" if share > _GREY_SHARE else ""
    values = np.unique(levels)
    if len(values) <= 2:
        return mask, ""
    shown = ", ".join(f"{value:g}" for value in values[:_NAMES_SHOWN].astype(float))
    return mask, f"{len(values)} values: {shown}{', ...' if len(values) > _NAMES_SHOWN else ''}"


def _fingerprint(pixels: np.ndarray) -> bytes:
    digest = hashlib.blake2b(repr((pixels.shape, pixels.dtype.str)).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels))
    return digest.digest()


def _mark_copies(
    splits: Splits, checks: dict[str, list[RowCheck]], data_dir: Path, to_divide: Collection[str]
) -> list[str]:
    """Make a problem of identical images that are, or could fall, in two splits; return the harmless pairs."""
    first: dict[bytes, tuple[str, str]] = {}
    harmless = []
    for split in sorted(splits, key=_KEEP_FIRST.index):
        for number, (record, check) in enumerate(zip(splits[split], checks[split], strict=True)):
            name = _name(record.image, data_dir)
            if not check.fingerprint or check.problems:
                continue
            if check.fingerprint not in first:
                first[check.fingerprint] = (split, name)
                continue
            other_split, other = first[check.fingerprint]
            if split == other_split and split not in to_divide:
                harmless.append(f"{name} = {other}")
                continue
            kind = REPEATED if split == other_split else LEAK
            checks[split][number] = replace(check, problems=((kind, f"{name} = {other}"),))
    return harmless


def _remark(report: CheckReport, splits: Splits, data_dir: Path, repeats: Sequence[str]) -> None:
    pairs = [
        (record, check)
        for split, records in splits.items()
        for record, check in zip(records, report.checks[split], strict=True)
    ]
    grey = [f"{_name(record.mask, data_dir)} ({check.grey_levels})" for record, check in pairs if check.grey_levels]
    full = [_name(record.mask, data_dir) for record, check in pairs if check.foreground == 1]
    empty = [_name(record.mask, data_dir) for record, check in pairs if check.foreground == 0]
    if grey:
        report.warnings.append(
            f"{len(grey)} masks are not binary: {_some(grey)}. From half of the range (128 of 255) on is foreground"
        )
    if full:
        report.warnings.append(f"{len(full)} masks are foreground everywhere: {_some(full)}")
    marked = [check.foreground for _, check in pairs if check.foreground]
    inverted = sum(share > 0.5 for share in marked)
    if inverted > len(marked) / 2:
        report.notes.append(
            f"{inverted} of {len(marked)} masks are more foreground (bright) than background: are they inverted?"
        )
    if repeats:
        report.warnings.append(f"{len(repeats)} images are there twice in one split: {_some(repeats)}")
    if empty:
        report.notes.append(f"{len(empty)} masks have no foreground: {_some(empty)}")
    sizes = Counter(check.size for _, check in pairs if check.size)
    if len(sizes) > 1:
        common = _some([f"{width}x{height} ({count})" for (width, height), count in sizes.most_common()])
        report.notes.append(f"images have {len(sizes)} sizes: {common}")
    report.numbers = {record.image: check.numbers for record, check in pairs if check.numbers and not check.problems}


def _require_foreground(good: dict[str, list[tuple[Record, RowCheck]]], data_dir: Path) -> None:
    """A single empty mask is an honest negative; a training set of nothing else is a mistake."""
    trained_on = next((split for split in ("train", UNSPLIT) if split in good), None)
    for split in [trained_on] if trained_on else good:
        if not any(check.foreground for _, check in good[split]):
            masks = ", ".join(_name(record.mask, data_dir) for record, _ in good[split] if record.mask)
            raise DataError(f"{data_dir}: no mask of {split} has any foreground: {masks}")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more
