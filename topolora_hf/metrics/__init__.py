"""Scores of binary masks: functions of one image, means over a set, and `evaluate.Metric` classes."""

from importlib import import_module

from .overlap import dice, iou, precision, recall
from .report import METRICS, score_image, score_set, write_per_image_csv
from .topology import cldice

_EVALUATE_MODULES = ("ClDiceMetric", "DiceMetric", "IoUMetric", "PrecisionMetric", "RecallMetric")

__all__ = [
    "METRICS",
    "cldice",
    "dice",
    "iou",
    "precision",
    "recall",
    "score_image",
    "score_set",
    "write_per_image_csv",
    *_EVALUATE_MODULES,
]


def __getattr__(name: str):
    # `evaluate` imports torch, which takes seconds that reading a score does not need.
    if name in _EVALUATE_MODULES:
        return getattr(import_module(".modules", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
