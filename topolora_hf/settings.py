"""Fields of settings that say what they are: help, argument group and limits stand in the field."""

import difflib
import json
import math
import operator
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, field, fields

GROUPS = ("data", "input", "network", "training", "objective", "inference", "output", "run")
_LIMITS = {
    "at_least": (operator.ge, "at least"),
    "above": (operator.gt, "above"),
    "below": (operator.lt, "below"),
    "at_most": (operator.le, "at most"),
}


def option(
    default: object = MISSING, help: str = "", *, group: str = "run", choices: Sequence | None = None, **limits: float
) -> Field:
    """Make a field of a settings dataclass. Its metadata hold what is said here.

    Args:
        default: The value if none is given; a list is copied. Without it the field is required.
        help: What `--help` and the settings page say.
        group: The argument group, one of `GROUPS`.
        choices: The allowed values.
        **limits: `at_least`, `above`, `below`, `at_most`: what `check_limits` checks. A limited number is finite.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Settings:
        ...     rank: int = option(16, "rank of the LoRA matrices", group="network", at_least=1)
        ...     __post_init__ = check_limits
        >>> Settings(rank=0)
        Traceback (most recent call last):
        ValueError: rank must be at least 1, got 0
    """
    if group not in GROUPS or not limits.keys() <= _LIMITS.keys():
        raise ValueError(f"group must be one of {', '.join(GROUPS)}; got {group!r}; limits {', '.join(_LIMITS)}")
    metadata = {"help": help, "group": group, **limits} | ({"choices": choices} if choices is not None else {})
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def check_limits(settings) -> None:
    """Check a settings dataclass, in its `__post_init__`, against the limits of its fields. None passes.

    Raises:
        ValueError: A value is outside. The message names the field, what is allowed, and the value.
    """
    for item in fields(settings):
        value = getattr(settings, item.name)
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if one is not None and (allowed := _broken_limits(item.metadata, one)):
                raise ValueError(f"{item.name} must be {allowed}, got {one!r}")


def changed_settings(before: Mapping, args, free: Collection[str] = ()) -> list[str]:
    """Say how settings now (a dataclass) differ from those in a file, but for the names in `free`.

    A setting that the file does not have had what is now its default.
    """
    defaults = {i.name: i.default if i.default_factory is MISSING else i.default_factory() for i in fields(args)}
    before = defaults | dict(before)
    now = json.loads(json.dumps(asdict(args)))
    changed = [name for name, value in now.items() if name not in free and before.get(name) != value]
    return [f"{name} was {before.get(name)!r}, is {now[name]!r}" for name in changed]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Name the nearest of the known words, if one is near.

    >>> did_you_mean("--max_step", ["--max_steps", "--seed"])
    ', did you mean --max_steps?'
    """
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.7)
    return f", did you mean {near[0]}?" if near else ""


def _broken_limits(metadata: Mapping, value: object) -> str | None:
    """What is allowed, in words, if this value is not."""
    if "choices" in metadata and value not in metadata["choices"]:
        return " or ".join(map(str, metadata["choices"]))
    limits = {name: metadata[name] for name in _LIMITS if name in metadata}
    if not limits or math.isfinite(value) and all(_LIMITS[name][0](value, limit) for name, limit in limits.items()):
        return None
    words = [f"{_LIMITS[name][1]} {limit}" for name, limit in limits.items()]
    return " and ".join(words if math.isfinite(value) else [*words, "finite"])
