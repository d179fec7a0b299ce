from dataclasses import dataclass

import pytest

from topolora_hf.settings import changed_settings, check_limits, option


@dataclass(kw_only=True)
class Settings:
    name: str = option(help="required")
    count: int | None = option(3, "a number", group="training", at_least=1)
    share: float = option(0.5, "a share", at_least=0, below=1)
    rates: list[float] = option([0.1], "several", above=0)
    kind: str | None = option(None, "one of two", choices=("hard", "soft"))
    free: float = option(1.0, "no limit")
    __post_init__ = check_limits


def test_values_inside_the_limits_and_none_pass():
    Settings(name="x", count=None, share=0, rates=[1, 2], kind="soft", free=float("inf"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"count": 0}, "count must be at least 1, got 0"),
        ({"share": 1.0}, "share must be at least 0 and below 1, got 1.0"),
        ({"share": float("nan")}, "share must be at least 0 and below 1 and finite, got nan"),
        ({"rates": [0.1, float("inf")]}, "rates must be above 0 and finite, got inf"),
        ({"kind": "medium"}, "kind must be hard or soft, got 'medium'"),
    ],
)
def test_a_value_outside_is_refused_by_name(changed, message):
    with pytest.raises(ValueError) as error:
        Settings(name="x", **changed)
    assert str(error.value) == message


def test_a_field_without_default_is_required_and_lists_are_copied():
    with pytest.raises(TypeError, match="name"):
        Settings()
    Settings(name="x").rates.append(5)
    assert Settings(name="x").rates == [0.1]


def test_an_unknown_group_is_refused():
    with pytest.raises(ValueError, match="group must be one of"):
        option(1, "x", group="misc")


def test_changed_settings_are_named_with_both_values():
    settings = Settings(name="x", count=4)
    assert changed_settings({"name": "y", "count": 4, "free": 2.0}, settings, free={"free"}) == ["name was 'y', is 'x'"]
    assert changed_settings({"name": "x"}, settings) == ["count was 3, is 4"]  # the file had the default
