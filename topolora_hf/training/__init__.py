"""From settings to a run directory."""

from .arguments import TrainArguments
from .loop import train
from .pretraining import PretrainArguments, pretrain
from .scoring import score_rows

__all__ = ["PretrainArguments", "TrainArguments", "pretrain", "score_rows", "train"]
