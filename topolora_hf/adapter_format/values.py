"""What the values of settings that come from strangers may be: networks are built from them."""

from collections.abc import Callable, Mapping
from dataclasses import Field, field, fields
from typing import NamedTuple


class Allowed(NamedTuple):
    """A check of one value, and what it allows in words."""

    check: Callable[[object], bool]
    text: str

    def require(self, name: str, value: object) -> None:
        """Raise ValueError, with the name, what is allowed and the value, if the check fails."""
        if not self.check(value):
            shown = repr(value)
            shown = shown if len(shown) <= 100 else shown[:100] + "..."
            raise ValueError(f"{name} must be {self.text}, got {shown}")


def whole(low: int, high: int, multiple_of: int = 1) -> Allowed:
    """Allow an int, and no bool, from `low` to `high`."""
    kind = "whole number" if multiple_of == 1 else f"multiple of {multiple_of}"
    return Allowed(
        lambda value: _is_number(value, low, high) and isinstance(value, int) and value % multiple_of == 0,
        f"a {kind} from {low} to {high}",
    )


def number(low: float = -1e6, high: float = 1e6) -> Allowed:
    """Allow a finite number, and no bool, from `low` to `high`."""
    return Allowed(
        lambda value: _is_number(value, low, high), "a number" if low == -1e6 else f"a number from {low} to {high}"
    )


def positive(high: float = 1e6) -> Allowed:
    """Allow a finite number above 0, up to `high`."""
    text = "a positive number" if high == 1e6 else f"a positive number up to {high}"
    return Allowed(lambda value: _is_number(value, 0, high) and value > 0, text)


def one_of(*values: object) -> Allowed:
    """Allow these values."""
    return Allowed(
        lambda value: any(type(value) is type(known) and value == known for known in values),
        " or ".join(map(str, values)),
    )


def several(allowed: Allowed, least: int, most: int, text: str) -> Allowed:
    """Allow a list or tuple of so many such values."""
    return Allowed(
        lambda value: (
            isinstance(value, list | tuple) and least <= len(value) <= most and all(map(allowed.check, value))
        ),
        text,
    )


def for_each_class(allowed: Allowed) -> Allowed:
    """Allow one such value for all classes, or a list or tuple of one for each."""
    each = several(allowed, 1, 1000, "")
    return Allowed(lambda value: allowed.check(value) or each.check(value), f"{allowed.text}, or one for each class")


def or_null(allowed: Allowed) -> Allowed:
    """Allow None too."""
    return Allowed(lambda value: value is None or allowed.check(value), f"{allowed.text} or null")


def _is_number(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _is_public_name(value: object) -> bool:
    """Never a path: whoever loads an adapter shall not have it look around on their disk."""
    if not TEXT.check(value) or any(character in value for character in "\\\n\0~"):
        return False
    parts = value.split("/")
    return value == "" or (len(parts) <= 2 and not {"", ".", ".."} & set(parts))


SWITCH = Allowed(lambda value: isinstance(value, bool), "true or false")
TEXT = Allowed(lambda value: isinstance(value, str) and len(value) <= 1000, "a text of at most 1000 characters")
PUBLIC_NAME = Allowed(_is_public_name, "a public name (a Hub id such as org/name, or topolora_hf/tiny), never a path")
OBJECT = Allowed(lambda value: isinstance(value, dict), "an object")


def setting(default: object, text: str, allowed: Allowed) -> Field:
    """Make a field of a settings dataclass with its help and with what it allows."""
    return field(default=default, metadata={"help": text, "allowed": allowed})


def check_values(settings: type, values: Mapping) -> None:
    """Check those fields of a settings dataclass that are there. ValueError names the field and what is allowed."""
    for item in fields(settings):
        if item.name in values:
            item.metadata["allowed"].require(item.name, values[item.name])
