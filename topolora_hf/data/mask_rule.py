"""What the values of a mask mean: one rule for a whole data set."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import DataError

_NUMBER = r"-?\d+(?:\.\d+)?"
RANGE = re.compile(rf"(?P<low>{_NUMBER})(?:-(?P<high>{_NUMBER}))?")
_VALUE = re.compile(rf"{RANGE.pattern}|#[0-9a-f]{{6}}|all|transparent")


def is_value(text: str) -> bool:
    """Whether the text, in lower case, names a value of a mask."""
    return _VALUE.fullmatch(text) is not None


def common_value(some: Sequence[str], others: Sequence[str]) -> str | None:
    """A value that both name, if there is one.

    >>> common_value(["1", "3-5"], ["4"]), common_value(["1"], ["2", "#ff0000"])
    ('4', None)
    """
    for one in some:
        for other in others:
            if one == other or "all" in (one, other):
                return other if one == "all" else one
            ranges = RANGE.fullmatch(one), RANGE.fullmatch(other)
            if all(ranges):
                (a, b), (c, d) = ((float(r["low"]), float(r["high"] or r["low"])) for r in ranges)
                if max(a, c) <= min(b, d):
                    return f"{max(a, c):g}"
    return None


@dataclass(frozen=True)
class MaskRule:
    """What in a mask is structure and what is left out, the same for all masks of a data set.

    A value is a number ("1"; the index, for a coloured palette), a range ("128-255"), a colour ("#ff0000"), "all" (but
    0 and black) or "transparent".

    Raises:
        DataError: A value is none of these, or structure is named in two ways.
    """

    values: tuple[str, ...] = ()  # structure, all else is background; empty: of two levels the bright one is it
    ignore: tuple[str, ...] = ()  # neither structure nor background: it leaves `valid_mask`
    inverted: bool = False  # of two levels the dark one is structure
    classes: tuple[tuple[str, ...], ...] = ()  # the values of each class, if one mask holds several; none is unnamed
    background: tuple[str, ...] = ()  # beside 0, black and transparent; with `classes`

    def __post_init__(self):
        for name in ("values", "ignore", "background"):
            object.__setattr__(self, name, tuple(str(value).strip().lower() for value in getattr(self, name)))
        for value in (*self.values, *self.ignore, *self.background, *(v for values in self.classes for v in values)):
            if not is_value(value):
                allowed = 'a number, a range (128-255), a colour ("#ff0000"), all or transparent'
                raise DataError(f"{value!r} is no value of a mask; allowed: {allowed}")
            if (match := RANGE.fullmatch(value)) and float(match["high"] or match["low"]) < float(match["low"]):
                raise DataError(f"the range {value} is empty: its first number is the larger one")
        if self.values and self.inverted:
            raise DataError("mask_values says what is structure, and so does invert_masks: give one of them")
        if self.classes and (self.values or self.inverted):
            raise DataError("classes say what is structure, and so does mask_values or invert_masks: give one of them")


USUAL = MaskRule()


@dataclass(frozen=True)
class MaskForm:
    """How the mask files of a row become its maps (K, H, W): one file for all of them, or a file a class."""

    rules: tuple[MaskRule, ...] = (USUAL,)  # of the one file; or of each class's, and of one whose pixels are ignored
    names: tuple[str, ...] = ("foreground",)
    exclusive: bool = False  # no pixel may have two classes


USUAL_FORM = MaskForm()
