"""Scores of segmentation: functions of one image and class, means over a set, and one `evaluate.Metric`."""

import lazy_loader as lazy

_REPORT = ["MASK_METRICS", "METRICS", "PROBABILITY_METRICS", "bootstrap_intervals", "score_image", "score_images"]

LINE_SCORES = ("apls", "topo_precision", "topo_recall", "topo_f1", "nsd", "hd95", "cliou")
"""Names of the scores of lines, which are computed on request."""

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "classes": ["any_class", "class_masks", "label_map", "label_values"],
        "confusion": ["accuracy_by_probability", "accuracy_on_structure", "confusion", "confusion_table"],
        "calibration": ["Reliability", "ece", "ece_foreground", "reliability"],
        "evaluate_metric": ["SegmentationMetric"],
        "lines": ["LINE_METRICS", *LINE_SCORES],
        "overlap": ["dice", "iou", "precision", "recall"],
        "platt_scaling": ["LogitCounts", "PlattScaling", "fit_platt_scaling", "logit_counts"],
        "ranking": ["auroc", "average_precision"],
        "report": [*_REPORT, "score_set", "summarise", "write_per_image_csv"],
        "thresholds": ["ThresholdCounts", "threshold_counts"],
        "tolerance": ["bfscore", "relaxed_f1", "relaxed_precision", "relaxed_recall"],
        "topology": ["betti0_error", "betti1_error", "cldice"],
    },
)
