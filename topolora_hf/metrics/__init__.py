"""Scores of binary segmentation: functions of one image, means over a set, and `evaluate.Metric` classes."""

from importlib import import_module

from .boundary import bfscore
from .calibration import Reliability, ece, ece_foreground, reliability
from .intervals import bootstrap_intervals, summarise
from .overlap import dice, iou, precision, recall
from .platt_scaling import LogitCounts, PlattScaling, fit_platt_scaling, logit_counts
from .ranking import auroc, average_precision
from .relaxed import relaxed_f1, relaxed_precision, relaxed_recall
from .report import (
    MASK_METRICS,
    METRICS,
    PROBABILITY_METRICS,
    score_image,
    score_images,
    score_set,
    write_per_image_csv,
)
from .thresholds import ThresholdCounts, best_threshold, threshold_counts
from .topology import betti0_error, betti1_error, cldice

_EVALUATE_MODULES = (
    "AUROCMetric",
    "AveragePrecisionMetric",
    "BFScoreMetric",
    "Betti0ErrorMetric",
    "Betti1ErrorMetric",
    "ClDiceMetric",
    "DiceMetric",
    "ECEMetric",
    "ForegroundECEMetric",
    "IoUMetric",
    "PrecisionMetric",
    "RecallMetric",
    "RelaxedF1Metric",
    "RelaxedPrecisionMetric",
    "RelaxedRecallMetric",
)

__all__ = [
    "LogitCounts",
    "MASK_METRICS",
    "METRICS",
    "PROBABILITY_METRICS",
    "PlattScaling",
    "Reliability",
    "ThresholdCounts",
    "auroc",
    "average_precision",
    "best_threshold",
    "betti0_error",
    "betti1_error",
    "bfscore",
    "bootstrap_intervals",
    "cldice",
    "dice",
    "ece",
    "ece_foreground",
    "fit_platt_scaling",
    "iou",
    "logit_counts",
    "precision",
    "recall",
    "relaxed_f1",
    "relaxed_precision",
    "relaxed_recall",
    "reliability",
    "score_image",
    "score_images",
    "score_set",
    "summarise",
    "threshold_counts",
    "write_per_image_csv",
    *_EVALUATE_MODULES,
]


def __getattr__(name: str):
    # `evaluate` imports torch, which takes seconds that reading a score does not need.
    if name in _EVALUATE_MODULES:
        return getattr(import_module(".modules", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
