"""From settings to a run directory."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "arguments": ["TrainArguments"],
        "interruption": ["RunStopped"],
        "run": ["train"],
        "scoring": ["score_rows"],
    },
)
