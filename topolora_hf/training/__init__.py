"""From settings to a run directory."""

from .arguments import TrainArguments
from .interruption import RunStopped
from .pretraining import PretrainArguments, pretrain
from .run import train
from .scoring import score_rows

__all__ = ["PretrainArguments", "RunStopped", "TrainArguments", "pretrain", "score_rows", "train"]
