"""Every file of a data set looked at once, before hours of training depend on it."""

import hashlib
import logging
import multiprocessing
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from .errors import DataError
from .images.masks import AmbiguousMask, MaskReading, describe_levels, flags_for, read_mask, unite
from .images.pictures import read_picture
from .intensity import Numbers
from .mask_rule import USUAL, MaskRule
from .records import ESTIMATED, UNSPLIT, Record, Splits, row_name, some

logger = logging.getLogger(__name__)

_NO_MASK = "no mask"
_AMBIGUOUS = "mask that can be read in several ways"
_OTHER_SIZE = "image and mask differ in size"
_LEAK = "image that is in another split, too"
_REPEATED = "image that is there twice, and could fall into two splits"
# A copy is kept in the split that is scored, and left out of the one that is learnt from.
_KEEP_FIRST = ("test", "validation", "train", UNSPLIT)
_BATCH = 16  # rows that a worker takes at a time
_MANY = 1000  # rows from which processes are worth their start


@dataclass
class RowCheck:
    """What one row's files turned out to be."""

    image: str  # what reports call the image
    mask: str  # and its mask, or the image again if there is none
    problems: list[tuple[str, str]] = field(default_factory=list)  # a kind, and what to report under it
    size: tuple[int, int] | None = None  # width and height of the image, if it can be read
    foreground: float | None = None  # share of the pixels, if the mask can be read
    structure: tuple[str, ...] = ()  # levels that its masks take as structure without being told
    unnamed: dict[str, float] = field(default_factory=dict)  # share of each level that the rule does not name
    ignored: float = 0.0  # share of the pixels
    is_soft: bool = False  # its mask has grey levels and was cut at half
    is_turned: bool = False  # as its orientation says, the mask has none, and their sizes do not settle which is right
    doubt: AmbiguousMask | None = None
    fingerprint: bytes = b""  # of the image's pixels
    numbers: Numbers | None = None  # what the image's values are


@dataclass(frozen=True)
class CheckReport:
    """What was found in a data set."""

    sentences: list[str]  # all that is to be told, most serious first
    numbers: dict[Path, Numbers]  # what the values of each usable image are
    structure: dict[str, int]  # how many masks take which level as structure


def check_rows(
    splits: Splits, data_dir: Path, *, skip_bad: bool = False, cut_validation: bool = False,
    mask_rule: MaskRule = USUAL, bands: Sequence[int] | None = None,
) -> tuple[Splits, CheckReport]:  # fmt: skip
    """Check all rows of a data set and report everything that is wrong with it at once.

    Names in the report are relative to `data_dir`. `cut_validation`: a validation split is still to be cut from train.

    Returns:
        The splits without the rows that `skip_bad` leaves out, and all that was found.

    Raises:
        DataError: Rows have a problem and `skip_bad` is False, a split has no usable row, masks mark structure by
            different values, or no mask to train on has any foreground.
    """
    from tqdm import tqdm

    records = [record for of_split in splits.values() for record in of_split]
    check = partial(check_record, data_dir=data_dir, mask_rule=mask_rule, bands=bands)
    with _workers(len(records)) as pool:
        found = pool.map(check, records, chunksize=_BATCH)
        rows = list(tqdm(found, "checking", len(records), unit="row", leave=False, disable=None))
    left = iter(rows)
    checks = {split: [next(left) for _ in records] for split, records in splits.items()}
    to_divide = {UNSPLIT} | ({"train"} if cut_validation and "validation" not in splits else set())
    warnings, notes = _remarks(rows, _mark_copies(checks, to_divide), mask_rule)
    problems = _problem_text(rows)
    if problems and not skip_bad:
        raise DataError(f"{data_dir}: {problems}\nskip_bad (--skip_bad) leaves these rows out.")
    if problems:
        logger.warning("%s: left out: %s", data_dir, problems)
    for warning in warnings:
        logger.warning("%s: %s", data_dir, warning)
    for note in notes:
        logger.info("%s: %s", data_dir, note)
    good = {
        split: [pair for pair in zip(records, checks[split], strict=True) if not pair[1].problems]
        for split, records in splits.items()
    }
    if lost := [split for split, pairs in good.items() if not pairs]:
        raise DataError(f"{data_dir}: {lost[0]} has no usable row left. {problems}")
    _require_structure({split: [check for _, check in pairs] for split, pairs in good.items()}, data_dir)
    report = CheckReport(
        [*([problems] if problems else []), *warnings, *notes],
        {record.image: check.numbers for pairs in good.values() for record, check in pairs},
        dict(Counter(level for row in rows for level in row.structure)),
    )
    return {split: [record for record, _ in pairs] for split, pairs in good.items()}, report


def _workers(rows: int) -> Executor:
    """Threads, as image libraries release Python's lock; for many files, of which Python takes most, processes."""
    count = min(8, os.cpu_count() or 1)
    can_fork = "fork" in multiprocessing.get_all_start_methods() and not multiprocessing.current_process().daemon
    if rows < _MANY or not can_fork:
        return ThreadPoolExecutor(count)
    return ProcessPoolExecutor(count, multiprocessing.get_context("fork"))


def check_record(
    record: Record, data_dir: Path, mask_rule: MaskRule = USUAL, bands: Sequence[int] | None = None
) -> RowCheck:
    """Decode all files of a row: a truncated file only shows when it is decoded."""
    name = partial(row_name, folder=data_dir)
    check = RowCheck(name(record.image), name(record.masks[0] if record.masks else record.image))

    def read(what: str, path: Path, decode: Callable, *args):
        try:
            return decode(path, name(path), *args)
        except DataError as error:
            if what == "mask" and isinstance(error.__cause__, AmbiguousMask):
                check.doubt = error.__cause__
                check.problems.append((_AMBIGUOUS, name(path)))
            else:
                check.problems.append((f"unreadable {what}", str(error)))
            return None

    image = read("image", record.image, read_picture, bands)
    readings = {path: read("mask", path, read_mask, mask_rule) for path in record.masks}
    has_view = record.valid_mask not in (None, ESTIMATED)
    view = read("field of view", record.valid_mask, read_mask) if has_view else None
    if record.mask is None:
        check.problems.append((_NO_MASK, check.image))
    if not all(readings.values()):
        readings = {}
    for path, reading in [*readings.items(), *([(record.valid_mask, view)] if view else [])]:
        size = reading.mask.shape[::-1]
        if image is not None and size != image.size:
            text = "{} is {}x{}, {} is {}x{}".format(check.image, *image.size, name(path), *size)
            if size == image.size[::-1]:
                text += f", one is turned: orientation (EXIF) is {image.orientation} for the image, "
                text += f"{reading.orientation} here"
            check.problems.append((_OTHER_SIZE, text))
    if view and not view.mask.any():
        check.problems.append(("field of view shows nothing", name(record.valid_mask)))
    if record.is_negative:
        check.foreground = 0.0
    if image is not None:
        check.size, check.numbers, check.fingerprint = image.size, image.numbers, _fingerprint(image.values)
        if readings and _OTHER_SIZE not in dict(check.problems):
            _add_masks(check, list(readings.values()), image.orientation)
    return check


def _add_masks(check: RowCheck, readings: Sequence[MaskReading], orientation: int) -> None:
    mask, ignored = unite(readings)
    check.foreground = float(np.count_nonzero(mask)) / mask.size
    check.structure = tuple({reading.structure for reading in readings} - {"", "opaque"})
    check.unnamed = {name: share for reading in readings for name, share in reading.unnamed.items()}
    check.ignored = 0.0 if ignored is None else float(ignored.mean())
    check.is_soft = any(reading.is_soft for reading in readings)
    keeps_size = orientation in (2, 3, 4) or (orientation != 1 and check.size[0] == check.size[1])
    check.is_turned = keeps_size and all(reading.orientation == 1 for reading in readings)


def _fingerprint(pixels: np.ndarray) -> bytes:
    digest = hashlib.blake2b(repr((pixels.shape, pixels.dtype.str)).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels))
    return digest.digest()


def _mark_copies(checks: dict[str, list[RowCheck]], to_divide: Collection[str]) -> list[str]:
    """Make a problem of identical images that are, or could fall, in two splits; return the harmless pairs."""
    first: dict[bytes, tuple[str, RowCheck]] = {}
    harmless = []
    for split in sorted(checks, key=_KEEP_FIRST.index):
        for check in checks[split]:
            if not check.fingerprint or check.problems:
                continue
            other_split, other = first.setdefault(check.fingerprint, (split, check))
            text = f"{check.image} = {other.image}"
            if split != other_split:
                check.problems.append((_LEAK, text))
            elif other is not check and split in to_divide:
                check.problems.append((_REPEATED, text))
            elif other is not check:
                harmless.append(text)
    return harmless


def _remarks(rows: Sequence[RowCheck], repeats: Sequence[str], rule: MaskRule) -> tuple[list[str], list[str]]:
    """Sentences on what may be a mistake, and on what is good to know."""
    marked = [row.foreground for row in rows if row.foreground]
    inverted = sum(share > 0.5 for share in marked)
    left_out = [row.ignored for row in rows if row.ignored]
    warnings = _counted(
        ([row.mask for row in rows if row.is_soft],
         "masks are not binary: {}. From half of the range on is foreground"),
        ([row.mask for row in rows if row.foreground == 1], "masks are foreground everywhere: {}"),
        ([row.image for row in rows if row.is_turned],
         "images are turned as their orientation (EXIF) says and their masks have none, so they may not fit: {}. Look "
         "at the sheet of `topolora describe`"),
        (repeats, "images are there twice in one split: {}"),
    )  # fmt: skip
    if inverted > len(marked) / 2:
        warnings.append(
            f"{inverted} of {len(marked)} masks are more foreground than background. If their structure is "
            f"{'bright' if rule.inverted else 'dark'}: --invert_masks{' is wrong' if rule.inverted else ''}"
        )
    if rule.ignore and not left_out:
        warnings.append(f"no mask has a value of --ignore {' '.join(rule.ignore)}")
    notes = []
    if unnamed := Counter(level for row in rows for level in row.unnamed):
        shown = some([f"{level} in {count} masks" for level, count in unnamed.most_common()])
        notes.append(f"values that mask_values does not name are background: {shown}")
    if left_out:
        share = f"{np.mean(left_out):.2%}"
        notes.append(f"{len(left_out)} masks leave out pixels ({share} of each): neither trained on nor scored")
    if rule.values or rule.inverted:
        notes.append(f"structure is {', '.join(rule.values) or 'what is dark'}, as the settings say")
    structure = Counter(level for row in rows for level in row.structure)
    if structure.keys() - {"1", "255"}:
        notes.append("structure is " + ", ".join(f"{level} ({count} masks)" for level, count in structure.items()))
    notes += _counted(([row.mask for row in rows if row.foreground == 0], "masks have no foreground: {}"))
    sizes = Counter(row.size for row in rows if row.size)
    if len(sizes) > 1:
        common = some([f"{width}x{height} ({count})" for (width, height), count in sizes.most_common()])
        notes.append(f"images have {len(sizes)} sizes: {common}")
    return warnings, notes


def _counted(*remarks: tuple[Sequence[str], str]) -> list[str]:
    """One sentence for each that has names: their number, and the first of them."""
    return [f"{len(names)} {text.format(some(names))}" for names, text in remarks if names]


def _problem_text(rows: Sequence[RowCheck]) -> str:
    """All problems grouped by kind: their number, the first names, and what may be done; empty without any."""
    by_kind = defaultdict(list)
    for kind, text in (problem for row in rows for problem in row.problems):
        by_kind[kind].append(text)
    if not by_kind:
        return ""
    hints = {_NO_MASK: ". If they show nothing to find: --missing_mask empty", _AMBIGUOUS: f". {_doubts(rows)}"}
    lines = [f"\n  {kind} ({len(texts)}): {some(texts)}{hints.get(kind, '')}" for kind, texts in by_kind.items()]
    return f"{sum(bool(row.problems) for row in rows)} of {len(rows)} rows cannot be used:{''.join(lines)}"


def _doubts(rows: Sequence[RowCheck]) -> str:
    """What the masks hold that can be read in several ways, and the flags for each way."""
    doubts = [row.doubt for row in rows if row.doubt]
    shares = Counter()
    for doubt in doubts:
        shares.update(doubt.shares)
    of_all = {name: shares[name] / len(doubts) for name in sorted(shares, key=lambda name: (len(name), name))}
    reasons = " or ".join(reason for reason, _ in Counter(doubt.reason for doubt in doubts).most_common())
    return f"{reasons}: {describe_levels(of_all)}. {flags_for(of_all)}"


def _require_structure(good: dict[str, list[RowCheck]], data_dir: Path) -> None:
    """Refuse a set whose masks have two levels each, and not the same, or one to train on without any foreground.

    One of the levels may be another class, or ignored. A single empty mask is an honest negative.
    """
    names = defaultdict(list)
    for row in (row for rows in good.values() for row in rows):
        for level in row.structure:
            names[level].append(row.mask)
    if len(names) > 1:
        shown = "; ".join(f"{level} in {len(masks)} ({some(masks)})" for level, masks in names.items())
        shares = dict.fromkeys(sorted(names), 0.0)
        raise DataError(f"{data_dir}: masks mark structure by different values: {shown}. {flags_for(shares)}")
    trained_on = next((split for split in ("train", UNSPLIT) if split in good), None)
    for split in [trained_on] if trained_on else good:
        if not any(row.foreground for row in good[split]):
            masks = some([row.mask for row in good[split]])
            raise DataError(f"{data_dir}: no mask of {split} has any foreground: {masks}")
