"""What the values of a mask mean: one rule for a whole data set."""

import re
from dataclasses import dataclass

from .errors import DataError

_NUMBER = r"-?\d+(?:\.\d+)?"
RANGE = re.compile(rf"(?P<low>{_NUMBER})(?:-(?P<high>{_NUMBER}))?")
_VALUE = re.compile(rf"{RANGE.pattern}|#[0-9a-f]{{6}}|all|transparent")


@dataclass(frozen=True)
class MaskRule:
    """What in a mask is structure and what is left out, the same for all masks of a data set.

    A value is a number ("1"; the index, for a coloured palette), a range ("128-255"), a colour ("#ff0000"), "all" (but
    0 and black) or "transparent".

    Raises:
        DataError: A value is none of these, or both `values` and `inverted` are given.
    """

    values: tuple[
        str, ...
    ] = ()  # structure; all else is background. Empty: masks have two levels, the bright one is it
    ignore: tuple[str, ...] = ()  # neither structure nor background: it leaves `valid_mask`
    inverted: bool = False  # of two levels the dark one is structure

    def __post_init__(self):
        for name in ("values", "ignore"):
            object.__setattr__(self, name, tuple(str(value).strip().lower() for value in getattr(self, name)))
        for value in (*self.values, *self.ignore):
            if not _VALUE.fullmatch(value):
                allowed = 'a number, a range (128-255), a colour ("#ff0000"), all or transparent'
                raise DataError(f"{value!r} is no value of a mask; allowed: {allowed}")
        if self.values and self.inverted:
            raise DataError("mask_values says what is structure, and so does invert_masks: give one of them")


USUAL = MaskRule()
