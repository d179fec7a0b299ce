"""From settings to a run directory."""

from .arguments import TrainArguments
from .loop import train
from .scoring import score_rows

__all__ = ["TrainArguments", "score_rows", "train"]
