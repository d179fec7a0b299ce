"""Every file of a data set looked at once, before hours of training depend on it."""

import logging
import multiprocessing
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from .errors import DataError
from .images.masks import MaskReading, describe_levels, flags_for
from .intensity import Numbers
from .mask_rule import USUAL_FORM, MaskForm, MaskRule, common_value
from .records import UNSPLIT, Splits, some
from .row_check import AMBIGUOUS, NO_MASK, SHARED, UNKNOWN, RowCheck, check_record

logger = logging.getLogger(__name__)

_LEAK = "image that is in another split, too"
_REPEATED = "image that is there twice, and could fall into two splits"
# A copy is kept in the split that is scored, and left out of the one that is learnt from.
_KEEP_FIRST = ("test", "validation", "train", UNSPLIT)
_MOST_SHOWN = 8  # values
_BATCH = 16  # rows that a worker takes at a time
_MANY = 1000  # rows from which processes are worth their start


@dataclass(frozen=True)
class CheckReport:
    """What was found in a data set."""

    sentences: list[str]  # all that is to be told, most serious first
    numbers: dict[Path, Numbers]  # what the values of each usable image are
    structure: dict[str, int]  # how many masks take which level as structure
    levels: dict[str, tuple[float, str]]  # share of each level of the masks, and what it is taken for


def check_rows(
    splits: Splits, data_dir: Path, *, skip_bad: bool = False, cut_validation: bool = False,
    form: MaskForm = USUAL_FORM, bands: Sequence[int] | None = None,
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
    check = partial(check_record, data_dir=data_dir, form=form, bands=bands)
    with _workers(len(records)) as pool:
        found = pool.map(check, records, chunksize=_BATCH)
        rows = list(tqdm(found, "checking", len(records), unit="row", leave=False, disable=None))
    left = iter(rows)
    checks = {split: [next(left) for _ in records] for split, records in splits.items()}
    to_divide = {UNSPLIT} | ({"train"} if cut_validation and "validation" not in splits else set())
    warnings, notes = _remarks(rows, _mark_copies(checks, to_divide), form)
    problems = _problem_text(rows, form)
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
    _require_structure({split: [check for _, check in pairs] for split, pairs in good.items()}, data_dir, form.names)
    report = CheckReport(
        [*([problems] if problems else []), *warnings, *notes],
        {record.image: check.numbers for pairs in good.values() for record, check in pairs},
        dict(Counter(level for row in rows for _, level in row.structure)),
        _all_levels(rows),
    )
    return {split: [record for record, _ in pairs] for split, pairs in good.items()}, report


def _workers(rows: int) -> Executor:
    """Threads, as image libraries release Python's lock; for many files, of which Python takes most, processes."""
    count = min(8, os.cpu_count() or 1)
    can_fork = "fork" in multiprocessing.get_all_start_methods() and not multiprocessing.current_process().daemon
    if rows < _MANY or not can_fork:
        return ThreadPoolExecutor(count)
    return ProcessPoolExecutor(count, multiprocessing.get_context("fork"))


def _all_levels(rows: Sequence[RowCheck]) -> dict[str, tuple[float, str]]:
    """Each level of all masks: its mean share, and what it is taken for."""
    with_masks = [row.levels for row in rows if row.levels]
    shares, meanings = Counter(), defaultdict(set)
    for levels in with_masks:
        for level, (share, meaning) in levels.items():
            shares[level] += share / len(with_masks)
            meanings[level].add(meaning)
    return {level: (share, " or ".join(sorted(meanings[level]))) for level, share in shares.most_common()}


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


def _remarks(rows: Sequence[RowCheck], repeats: Sequence[str], form: MaskForm) -> tuple[list[str], list[str]]:
    """Sentences on what may be a mistake, and on what is good to know."""
    rule = form.rules[0]
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
    if inverted > len(marked) / 2 and not rule.classes:
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
    structure = Counter(level for row in rows for _, level in row.structure)
    if rule.classes:
        named = "; ".join(f"{name} is {', '.join(v)}" for name, v in zip(form.names, rule.classes, strict=True))
        how = "a pixel has one class at most" if form.exclusive else "classes may overlap"
        notes.append(f"{named}; {how}" if len(form.names) > 1 else named)
        by_default = sum(row.levels.get("255", (0, ""))[1] == "ignored" for row in rows)
        if by_default and common_value(("255",), rule.ignore) is None:
            notes.append(f"255 is ignored in {by_default} masks, as nothing names it")
    if structure.keys() - {"1", "255"}:
        notes.append("structure is " + ", ".join(f"{level} ({count} masks)" for level, count in structure.items()))
    notes += _counted(([row.mask for row in rows if row.foreground == 0], "masks have no foreground: {}"))
    sizes = Counter(row.size for row in rows if row.size)
    if len(sizes) > 1:
        common = some([f"{width}x{height} ({count})" for (width, height), count in sizes.most_common()])
        notes.append(f"images have {len(sizes)} sizes: {common}")
    return warnings, notes


def remarks_on(reading: MaskReading, rule: MaskRule) -> Iterator[str]:
    """Sentences on how one mask was read by a rule, where it may have been meant otherwise."""
    if reading.is_soft:
        yield "it is not binary; from half of the range on is structure"
    if reading.unnamed:
        yield f"values that --mask_values does not name are background: {some(list(reading.unnamed))}"
    if not rule.classes and reading.mask.mean() > 0.5:
        how = "bright: --invert_masks is wrong" if rule.inverted else "dark: --invert_masks"
        yield f"more of it is structure than background. If its structure is {how}"


def _counted(*remarks: tuple[Sequence[str], str]) -> list[str]:
    """One sentence for each that has names: their number, and the first of them."""
    return [f"{len(names)} {text.format(some(names))}" for names, text in remarks if names]


def _problem_text(rows: Sequence[RowCheck], form: MaskForm) -> str:
    """All problems grouped by kind: their number, the first names, and what may be done; empty without any."""
    by_kind = defaultdict(list)
    for kind, text in (problem for row in rows for problem in row.problems):
        by_kind[kind].append(text)
    if not by_kind:
        return ""
    hints = {
        NO_MASK: ". If they show nothing to find: --missing_mask empty",
        AMBIGUOUS: f". {_doubts(rows)}",
        UNKNOWN: f". {_unknown_values(rows, form)}",
        SHARED: ". --classes exclusive=false lets classes overlap",
    }
    lines = [f"\n  {kind} ({len(texts)}): {some(texts)}{hints.get(kind, '')}" for kind, texts in by_kind.items()]
    return f"{sum(bool(row.problems) for row in rows)} of {len(rows)} rows cannot be used:{''.join(lines)}"


def _unknown_values(rows: Sequence[RowCheck], form: MaskForm) -> str:
    """Each value that has no class, how often it is there, what is named, and the flags that name it."""
    pixels, masks = Counter(), Counter()
    for row in rows:
        pixels.update(row.unknown)
        masks.update(row.unknown.keys())
    shown = [f"{name} ({count} pixels in {masks[name]} masks)" for name, count in pixels.most_common()]
    rule = form.rules[0]
    named = "; ".join(f"{name} {', '.join(v)}" for name, v in zip(form.names, rule.classes, strict=False))
    named += f"; background 0{''.join(f', {value}' for value in rule.background)}"
    named += f"; ignored {', '.join(rule.ignore)}" * bool(rule.ignore)
    first = next(iter(pixels), "").split(" ")[0]
    flags = f'"NAME={first}" in --classes makes it a class, "background={first}" background; --ignore "{first}"'
    return f"{some(shown, _MOST_SHOWN)}. Named are: {named}. {flags} leaves it out"


def _doubts(rows: Sequence[RowCheck]) -> str:
    """What the masks hold that can be read in several ways, and the flags for each way."""
    doubts = [row.doubt for row in rows if row.doubt]
    shares = Counter()
    for doubt in doubts:
        shares.update(doubt.shares)
    of_all = {name: shares[name] / len(doubts) for name in sorted(shares, key=lambda name: (len(name), name))}
    reasons = " or ".join(reason for reason, _ in Counter(doubt.reason for doubt in doubts).most_common())
    return f"{reasons}: {describe_levels(of_all)}. {flags_for(of_all)}"


def _require_structure(good: dict[str, list[RowCheck]], data_dir: Path, classes: Sequence[str]) -> None:
    """Refuse a set whose masks have two levels each, and not the same, or no foreground of a class to train on.

    One of the levels may be another class, or ignored. A single empty mask is an honest negative.
    """
    of_class = defaultdict(lambda: defaultdict(list))
    for row in (row for rows in good.values() for row in rows):
        for name, level in row.structure:
            of_class[name][level].append(row.mask)
    for names in (names for names in of_class.values() if len(names) > 1):
        shown = "; ".join(f"{level} in {len(masks)} ({some(masks)})" for level, masks in names.items())
        shares = dict.fromkeys(sorted(names), 0.0)
        raise DataError(f"{data_dir}: masks mark structure by different values: {shown}. {flags_for(shares)}")
    trained_on = next((split for split in ("train", UNSPLIT) if split in good), None)
    for split in [trained_on] if trained_on else good:
        if not any(row.foreground for row in good[split]):
            masks = some([row.mask for row in good[split]])
            raise DataError(f"{data_dir}: no mask of {split} has any foreground: {masks}")
        for number, name in enumerate(classes if len(classes) > 1 else ()):
            if not any(row.of_class[number] for row in good[split] if row.of_class):
                values = ", ".join(_all_levels(good[split]))
                raise DataError(f"{data_dir}: no mask of {split} has any pixel of class {name}; masks hold {values}")
