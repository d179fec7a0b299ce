"""What the values of an adapter's settings may be: they come from strangers, and networks are built from them."""

from collections.abc import Callable, Mapping

VIEWS = ("tiles", "whole")


def check_setting_values(values: Mapping) -> None:
    """Checks those fields of `AdapterSettings` that are there.

    Raises:
        ValueError: naming the field, its value and what is allowed.
    """
    for name, value in values.items():
        if name not in _ALLOWED:
            continue
        is_allowed, allowed = _ALLOWED[name]
        if not is_allowed(value):
            shown = repr(value)
            raise ValueError(f"{name} must be {allowed}, got {shown if len(shown) <= 100 else shown[:100] + '...'}")


def is_whole(value: object, low: int, high: int) -> bool:
    """Whether it is an int, and no bool, from `low` to `high`."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_number(value: object, low: float, high: float) -> bool:
    """Whether it is a finite number, and no bool, from `low` to `high`."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _is_positive(value: object, high: float) -> bool:
    return is_number(value, 0, high) and value > 0


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 1000


def _is_public_name(value: object) -> bool:
    """Never a path: whoever loads an adapter shall not have it look around on their disk."""
    if not _is_text(value) or any(character in value for character in "\\\n\0~"):
        return False
    parts = value.split("/")
    return value == "" or (len(parts) <= 2 and not {"", ".", ".."} & set(parts))


def _are(check: Callable[[object], bool], least: int, most: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list | tuple) and least <= len(value) <= most and all(map(check, value))


def _or_none(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or check(value)


def _is_switch(value: object) -> bool:
    return isinstance(value, bool)


_ALLOWED: dict[str, tuple[Callable[[object], bool], str]] = {
    "base": (_is_public_name, "a public name (a Hub id such as org/name, or topolora_hf/tiny), never a path"),
    "preset": (_is_text, "a name"),
    "image_size": (lambda value: is_whole(value, 16, 8192), "a whole number from 16 to 8192"),
    "tile_size": (lambda value: is_whole(value, 16, 16384), "a whole number from 16 to 16384"),
    "detail_channels": (lambda value: is_whole(value, 0, 512), "a whole number from 0 to 512"),
    "detail_context": (_is_switch, "true or false"),
    "spatial_adapter_form": (_is_text, "paper or seglab"),
    "use_sam": (_is_switch, "true or false"),
    "view": (lambda value: isinstance(value, str) and value in VIEWS, " or ".join(VIEWS)),
    "threshold": (lambda value: is_number(value, 0, 1), "a number from 0 to 1"),
    "temperature": (lambda value: _is_positive(value, 1e6), "a positive number"),
    "logit_bias": (lambda value: is_number(value, -1e6, 1e6), "a number"),
    "test_time_flips": (_is_switch, "true or false"),
    "test_time_scales": (_are(lambda value: is_number(value, 0.1, 10), 1, 16), "one to 16 numbers from 0.1 to 10"),
    "image_mean": (_are(lambda value: is_number(value, -1e6, 1e6), 3, 3), "three numbers"),
    "image_std": (_are(lambda value: _is_positive(value, 1e6), 3, 3), "three positive numbers"),
    "labels": (_are(lambda value: _is_text(value) and value != "", 1, 1000), "one to 1000 names"),
    "intensity": (_or_none(lambda value: isinstance(value, dict)), "an object with low, high and transform, or null"),
    "disc_diameter": (_or_none(lambda value: _is_positive(value, 20_000)), "a positive number up to 20000, or null"),
    "disc_colours": (
        _or_none(lambda value: isinstance(value, dict)),
        "an object with lowest, typical and highest, or null",
    ),
    "dataset": (_or_none(_is_text), "a name or null"),
}  # fmt: skip
