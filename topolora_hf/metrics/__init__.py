"""Scores of binary segmentation: functions of one image, means over a set, and one `evaluate.Metric`."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "boundary": ["bfscore"],
        "calibration": ["Reliability", "ece", "ece_foreground", "reliability"],
        "intervals": ["bootstrap_intervals", "summarise"],
        "evaluate_metric": ["SegmentationMetric"],
        "overlap": ["dice", "iou", "precision", "recall"],
        "platt_scaling": ["LogitCounts", "PlattScaling", "fit_platt_scaling", "logit_counts"],
        "ranking": ["auroc", "average_precision"],
        "relaxed": ["relaxed_f1", "relaxed_precision", "relaxed_recall"],
        "report": [
            "MASK_METRICS",
            "METRICS",
            "PROBABILITY_METRICS",
            "score_image",
            "score_images",
            "score_set",
            "write_per_image_csv",
        ],
        "thresholds": ["ThresholdCounts", "threshold_counts"],
        "topology": ["betti0_error", "betti1_error", "cldice"],
    },
)
