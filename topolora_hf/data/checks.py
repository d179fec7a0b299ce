"""Every file of a data set looked at once, before hours of training depend on it."""

import hashlib
import logging
import multiprocessing
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from .errors import DataError
from .images.masks import AmbiguousMask, decode_mask, describe_levels, flags_for, read_mask, unite
from .images.pictures import read_picture
from .intensity import Numbers
from .mask_rule import USUAL, MaskRule
from .records import ESTIMATED, UNSPLIT, Record, Splits, row_name, some

logger = logging.getLogger(__name__)

NO_MASK = "no mask"
UNREADABLE_IMAGE = "unreadable image"
UNREADABLE_MASK = "unreadable mask"
AMBIGUOUS_MASK = "mask that can be read in several ways"
UNREADABLE_VIEW = "unreadable field of view"
OTHER_SIZE = "image and mask differ in size"
EMPTY_VIEW = "field of view shows nothing"
LEAK = "image that is in another split, too"
REPEATED = "image that is there twice, and could fall into two splits"

_HINTS = {NO_MASK: "If they show nothing to find: --missing_mask empty"}
# A copy is kept in the split that is scored, and left out of the one that is learnt from.
_KEEP_FIRST = ("test", "validation", "train", UNSPLIT)
_BATCH = 16  # rows that a worker takes at a time
_MANY = 1000  # rows from which processes are worth their start


@dataclass(frozen=True)
class RowCheck:
    """What one row's files turned out to be.

    Attributes:
        problems: Pairs of a kind (`NO_MASK`, ...) and the name or sentence to report under it.
        size: Width and height of the image, None if it cannot be read.
        foreground: Share of foreground pixels, None if the mask cannot be read.
        structure: The levels that its masks take as structure without being told.
        unnamed: Share of each level that is background because the rule does not name it.
        ignored: Share of pixels that its masks leave out.
        is_soft: Its mask has grey levels and was cut at half.
        is_turned: The image is turned as its orientation says and the mask has none, which their sizes do not settle.
        doubt: Why its mask can be read in several ways.
        fingerprint: Of the image's pixels.
        numbers: What the image's values are.
    """

    problems: tuple[tuple[str, str], ...]
    size: tuple[int, int] | None = None
    foreground: float | None = None
    structure: tuple[str, ...] = ()
    unnamed: dict[str, float] = field(default_factory=dict)
    ignored: float = 0.0
    is_soft: bool = False
    is_turned: bool = False
    doubt: AmbiguousMask | None = None
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
        structure: How many masks take which level as structure.
    """

    checks: dict[str, list[RowCheck]]
    problems: dict[str, list[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    numbers: dict[Path, Numbers] = field(default_factory=dict)
    structure: dict[str, int] = field(default_factory=dict)

    def sentences(self) -> list[str]:
        """Everything, most serious first."""
        return [*filter(None, [self.problem_text()]), *self.warnings, *self.notes]

    def problem_text(self) -> str:
        """All problems grouped by kind: their number, the first names, and what may be done; empty without any."""
        if not self.problems:
            return ""
        rows = [check for split in self.checks.values() for check in split]
        lines = []
        for kind, texts in self.problems.items():
            hint = _doubts(rows) if kind == AMBIGUOUS_MASK else _HINTS.get(kind, "")
            lines.append(f"\n  {kind} ({len(texts)}): {some(texts)}" + f". {hint}" * bool(hint))
        return f"{sum(bool(check.problems) for check in rows)} of {len(rows)} rows cannot be used:{''.join(lines)}"


def check_rows(
    splits: Splits, data_dir: Path, *, skip_bad: bool = False, cut_validation: bool = False,
    mask_rule: MaskRule = USUAL, bands: Sequence[int] | None = None,
) -> tuple[Splits, CheckReport]:  # fmt: skip
    """Check all rows of a data set and report everything that is wrong with it at once.

    Args:
        splits: The rows of each split, as a reader lists them.
        data_dir: The data set's folder; names in the report are relative to it.
        skip_bad: Leave out rows with a problem, with a warning.
        cut_validation: A validation split is still to be cut from train.
        mask_rule: What in a mask is structure.
        bands: Of the images.

    Returns:
        The splits without the rows left out, and all that was found.

    Raises:
        DataError: Rows have a problem and `skip_bad` is False, a split has no usable row, masks mark structure by
            different values, or no mask to train on has any foreground.
    """
    report = examine_rows(splits, data_dir, cut_validation, mask_rule, bands)
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
    _require_one_structure(good, report, data_dir)
    _require_foreground(good, data_dir)
    report.numbers = {record.image: check.numbers for pairs in good.values() for record, check in pairs}
    return {split: [record for record, _ in pairs] for split, pairs in good.items()}, report


def examine_rows(
    splits: Splits, data_dir: Path, cut_validation: bool, mask_rule: MaskRule, bands: Sequence[int] | None
) -> CheckReport:
    """Decode every file of every row, and gather what is wrong or worth knowing."""
    from tqdm import tqdm

    records = [record for of_split in splits.values() for record in of_split]
    batches = [records[first : first + _BATCH] for first in range(0, len(records), _BATCH)]
    found: list[RowCheck] = []
    with (
        _workers(len(records)) as pool,
        tqdm(total=len(records), desc="checking", unit="row", leave=False, disable=None) as bar,
    ):
        for checked in pool.map(partial(_check_batch, data_dir=data_dir, mask_rule=mask_rule, bands=bands), batches):
            found += checked
            bar.update(len(checked))
    left = iter(found)
    checks = {split: [next(left) for _ in of_split] for split, of_split in splits.items()}
    to_divide = {UNSPLIT} | ({"train"} if cut_validation and "validation" not in splits else set())
    repeats = _mark_copies(splits, checks, data_dir, to_divide)
    problems = defaultdict(list)
    for check in (check for of_split in checks.values() for check in of_split):
        for kind, text in check.problems:
            problems[kind].append(text)
    report = CheckReport(checks, dict(problems))
    pairs = list(zip(records, (check for of_split in checks.values() for check in of_split), strict=True))
    _remark_masks(report, [(_mask_name(record, data_dir), check) for record, check in pairs], mask_rule)
    _remark_images(report, [(row_name(record.image, data_dir), check) for record, check in pairs], repeats)
    return report


def _workers(rows: int) -> Executor:
    """Threads, as image libraries release Python's lock; for many files, of which Python takes most, processes."""
    count = min(8, os.cpu_count() or 1)
    if (
        rows < _MANY
        or "fork" not in multiprocessing.get_all_start_methods()
        or multiprocessing.current_process().daemon
    ):
        return ThreadPoolExecutor(count)
    return ProcessPoolExecutor(count, multiprocessing.get_context("fork"))


def _check_batch(
    records: Sequence[Record], data_dir: Path, mask_rule: MaskRule, bands: Sequence[int] | None
) -> list[RowCheck]:
    return [check_record(record, data_dir, mask_rule, bands) for record in records]


def check_record(
    record: Record, data_dir: Path, mask_rule: MaskRule = USUAL, bands: Sequence[int] | None = None
) -> RowCheck:
    """Decode all files of a row: a truncated file only shows when it is decoded."""
    problems: list[tuple[str, str]] = []
    doubt = None

    def read(kind: str, path: Path, decode: Callable, *args):
        nonlocal doubt
        try:
            return decode(path, row_name(path, data_dir), *args)
        except DataError as error:
            if kind == UNREADABLE_MASK and isinstance(error.__cause__, AmbiguousMask):
                doubt = error.__cause__
                problems.append((AMBIGUOUS_MASK, row_name(path, data_dir)))
            else:
                problems.append((kind, str(error)))
            return None

    image = read(UNREADABLE_IMAGE, record.image, read_picture, bands)
    readings = [read(UNREADABLE_MASK, path, read_mask, mask_rule) for path in record.masks]
    has_view = record.valid_mask not in (None, ESTIMATED)
    view = read(UNREADABLE_VIEW, record.valid_mask, decode_mask) if has_view else None
    if record.mask is None:
        problems.append((NO_MASK, row_name(record.image, data_dir)))
    readings = readings if all(readings) else []
    for path, array, turned in [
        *((path, reading.mask, reading.orientation) for path, reading in zip(record.masks, readings, strict=False)),
        *([(record.valid_mask, view, 1)] if view is not None else []),
    ]:
        if image is not None and array.shape[::-1] != image.size:
            texts = ["{} is {}x{}".format(row_name(file, data_dir), *size)
                     for file, size in ((record.image, image.size), (path, array.shape[::-1]))]  # fmt: skip
            if array.shape == image.size:
                texts.append(f"one is turned: orientation (EXIF) is {image.orientation} for the image, {turned} here")
            problems.append((OTHER_SIZE, ", ".join(texts)))
    if view is not None and not view.any():
        problems.append((EMPTY_VIEW, row_name(record.valid_mask, data_dir)))
    of_image = {}
    if image is not None:
        of_image = {"size": image.size, "numbers": image.numbers, "fingerprint": _fingerprint(image.values)}
    if record.is_negative or not readings or OTHER_SIZE in dict(problems):
        return RowCheck(tuple(problems), doubt=doubt, foreground=0.0 if record.is_negative else None, **of_image)
    mask, ignored = unite(readings)
    can_differ = image is not None and (image.size[0] == image.size[1] or image.orientation in (2, 3, 4))
    return RowCheck(
        tuple(problems),
        foreground=float(np.count_nonzero(mask)) / mask.size,
        structure=tuple({reading.structure for reading in readings} - {"", "opaque"}),
        unnamed={name: share for reading in readings for name, share in reading.unnamed.items()},
        ignored=0.0 if ignored is None else float(ignored.mean()),
        is_soft=any(reading.is_soft for reading in readings),
        is_turned=can_differ and image.orientation != 1 and all(reading.orientation == 1 for reading in readings),
        **of_image,
    )


def _mask_name(record: Record, data_dir: Path) -> str:
    return row_name(record.masks[0] if record.masks else record.image, data_dir)


def _fingerprint(pixels: np.ndarray) -> bytes:
    digest = hashlib.blake2b(repr((pixels.shape, pixels.dtype.str)).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels))
    return digest.digest()


def _mark_copies(
    splits: Splits, checks: dict[str, list[RowCheck]], data_dir: Path, to_divide: Collection[str]
) -> list[str]:
    """Make a problem of identical images that are, or could fall, in two splits; return the harmless pairs."""
    first: dict[bytes, tuple[str, Path]] = {}
    harmless = []
    for split in sorted(splits, key=_KEEP_FIRST.index):
        for number, (record, check) in enumerate(zip(splits[split], checks[split], strict=True)):
            if not check.fingerprint or check.problems:
                continue
            other_split, other = first.setdefault(check.fingerprint, (split, record.image))
            if other is record.image:
                continue
            text = f"{row_name(record.image, data_dir)} = {row_name(other, data_dir)}"
            if split == other_split and split not in to_divide:
                harmless.append(text)
                continue
            kind = REPEATED if split == other_split else LEAK
            checks[split][number] = replace(check, problems=((kind, text),))
    return harmless


def _remark_masks(report: CheckReport, pairs: Sequence[tuple[str, RowCheck]], rule: MaskRule) -> None:
    soft = [name for name, check in pairs if check.is_soft]
    full = [name for name, check in pairs if check.foreground == 1]
    empty = [name for name, check in pairs if check.foreground == 0]
    left_out = [check.ignored for _, check in pairs if check.ignored]
    unnamed = Counter(level for _, check in pairs for level in check.unnamed)
    report.structure = dict(Counter(level for _, check in pairs for level in check.structure))
    if soft:
        report.warnings.append(
            f"{len(soft)} masks are not binary: {some(soft)}. From half of the range on is foreground"
        )
    if full:
        report.warnings.append(f"{len(full)} masks are foreground everywhere: {some(full)}")
    marked = [check.foreground for _, check in pairs if check.foreground]
    inverted = sum(share > 0.5 for share in marked)
    if inverted > len(marked) / 2:
        report.warnings.append(
            f"{inverted} of {len(marked)} masks are more foreground than background. If their structure is "
            f"{'bright' if rule.inverted else 'dark'}: --invert_masks{' is wrong' if rule.inverted else ''}"
        )
    if unnamed:
        shown = some([f"{level} in {count} masks" for level, count in unnamed.most_common()])
        report.notes.append(f"values that mask_values does not name are background: {shown}")
    if left_out:
        report.notes.append(
            f"{len(left_out)} masks leave out pixels ({np.mean(left_out):.2%} of each): neither trained on nor scored"
        )
    elif rule.ignore:
        report.warnings.append(f"no mask has a value of --ignore {' '.join(rule.ignore)}")
    if rule.values or rule.inverted:
        report.notes.append(f"structure is {', '.join(rule.values) or 'what is dark'}, as the settings say")
    if report.structure.keys() - {"1", "255"}:
        report.notes.append("structure is " + ", ".join(f"{key} ({n} masks)" for key, n in report.structure.items()))
    if empty:
        report.notes.append(f"{len(empty)} masks have no foreground: {some(empty)}")


def _remark_images(report: CheckReport, pairs: Sequence[tuple[str, RowCheck]], repeats: Sequence[str]) -> None:
    turned = [name for name, check in pairs if check.is_turned]
    if turned:
        report.warnings.append(
            f"{len(turned)} images are turned as their orientation (EXIF) says and their masks have none, so they may "
            f"not fit: {some(turned)}. Look at the sheet of `topolora describe`"
        )
    if repeats:
        report.warnings.append(f"{len(repeats)} images are there twice in one split: {some(repeats)}")
    sizes = Counter(check.size for _, check in pairs if check.size)
    if len(sizes) > 1:
        common = some([f"{width}x{height} ({count})" for (width, height), count in sizes.most_common()])
        report.notes.append(f"images have {len(sizes)} sizes: {common}")


def _doubts(rows: Sequence[RowCheck]) -> str:
    """What the masks hold that can be read in several ways, and the flags for each way."""
    doubts = [check.doubt for check in rows if check.doubt]
    shares = Counter()
    for doubt in doubts:
        shares.update(doubt.shares)
    of_all = {
        name: share / len(doubts) for name, share in sorted(shares.items(), key=lambda item: (len(item[0]), item[0]))
    }
    reasons = Counter(doubt.reason for doubt in doubts).most_common()
    return f"{' or '.join(reason for reason, _ in reasons)}: {describe_levels(of_all)}. {flags_for(of_all)}"


def _require_one_structure(good: dict[str, list[tuple[Record, RowCheck]]], report: CheckReport, data_dir: Path) -> None:
    """Refuse a set whose masks have two levels each, and not the same: one of them may be another class, or ignored."""
    names = defaultdict(list)
    for record, check in (pair for pairs in good.values() for pair in pairs):
        for level in check.structure:
            names[level].append(_mask_name(record, data_dir))
    if len(names) > 1:
        shown = "; ".join(f"{level} in {len(masks)} ({some(masks)})" for level, masks in names.items())
        shares = dict.fromkeys(sorted(names), 0.0)
        raise DataError(f"{data_dir}: masks mark structure by different values: {shown}. {flags_for(shares)}")


def _require_foreground(good: dict[str, list[tuple[Record, RowCheck]]], data_dir: Path) -> None:
    """A single empty mask is an honest negative; a training set of nothing else is a mistake."""
    trained_on = next((split for split in ("train", UNSPLIT) if split in good), None)
    for split in [trained_on] if trained_on else good:
        if not any(check.foreground for _, check in good[split]):
            masks = [_mask_name(record, data_dir) for record, _ in good[split]]
            raise DataError(f"{data_dir}: no mask of {split} has any foreground: {some(masks)}")
