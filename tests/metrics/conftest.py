"""Properties are tried on 25 examples, and on 2,000 with `-m slow`."""

import pytest
from hypothesis import settings

settings.register_profile("quick", max_examples=25, deadline=None)
settings.register_profile("long", max_examples=2000, deadline=None)


def pytest_configure(config):
    settings.load_profile("long" if config.option.markexpr == "slow" else "quick")


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what is not slow
def pytest_collection_modifyitems(config, items):
    if config.option.markexpr == "slow":
        for item in items:
            if hasattr(getattr(item, "obj", None), "hypothesis"):
                item.add_marker("slow")
