"""The metrics as one `evaluate.Metric`, for `evaluate.combine` and everything else that speaks `evaluate`."""

from collections.abc import Sequence

import evaluate
import numpy as np
from datasets import Features, Value
from datasets import Sequence as Nested

from .masks import as_mask, as_probability
from .report import METRICS, ON_REQUEST, score_image, score_set

_INPUTS = """
Args:
    predictions: list of foreground probabilities in [0, 1], or masks of 0 and 1, (H, W); sizes may differ.
    references: list of masks (H, W), bool or 0/1, each of its prediction's size.
    valid_masks: list of masks (H, W), true where an image is to be scored; optional, for `compute` only, and then one
        for every image added before.
Returns:
    dict: for each name its mean over the images where it is defined (NaN if it is on none).
"""


class SegmentationMetric(evaluate.Metric):
    """Means over images of some of the metrics in `METRICS` and `ON_REQUEST`. It needs no download.

    Args:
        names: Which metrics.
        threshold: A pixel is foreground if its probability is at least this.
        kwargs: As for `evaluate.Metric`, such as `cache_dir` or `keep_in_memory`.

    Raises:
        ValueError: A name is unknown.

    >>> metric = SegmentationMetric(["dice", "iou"], keep_in_memory=True)
    >>> metric.compute(predictions=[[[0.9, 0.6], [0.1, 0.2]]], references=[[[1, 0], [0, 0]]])["iou"]
    0.5
    """

    def __init__(self, names: Sequence[str] = ("dice",), threshold: float = 0.5, **kwargs):
        unknown = [names] if isinstance(names, str) else [name for name in names if name not in METRICS | ON_REQUEST]
        if unknown or not names:
            raise ValueError(f"names must be a list from {', '.join(METRICS | ON_REQUEST)}; got {names!r}")
        self.names, self.threshold = tuple(names), threshold
        super().__init__(**kwargs)

    def _info(self) -> evaluate.MetricInfo:
        # Nested sequences hold arrays of any size in one column; `Array2D` fixes the width.
        columns = {"predictions": Nested(Nested(Value("float64"))), "references": Nested(Nested(Value("bool")))}
        description = "\n\n".join((METRICS | ON_REQUEST)[name].__doc__ for name in self.names)
        return evaluate.MetricInfo(description, citation="", inputs_description=_INPUTS, features=Features(columns))

    def add(self, *, prediction=None, reference=None, predictions=None, references=None) -> None:
        """Add one prediction (H, W) and its true mask (H, W)."""
        # `evaluate.combine` hands one pair over under the plural names.
        prediction = predictions if prediction is None else prediction
        reference = references if reference is None else reference
        self.add_batch(predictions=[prediction], references=[reference])

    def add_batch(self, *, predictions=None, references=None, **kwargs) -> None:
        """Add a list of predictions (H, W) and a list of true masks (H, W)."""
        # Checked here: the column of bool would take any number above 0 for foreground.
        predictions = [as_probability(array, "prediction") for array in predictions]
        references = [as_mask(mask, "reference") for mask in references]
        super().add_batch(predictions=predictions, references=references, **kwargs)

    def _compute(self, predictions: Sequence, references: Sequence, valid_masks: Sequence | None = None) -> dict:
        valid_masks = [None] * len(references) if valid_masks is None else valid_masks
        if len(valid_masks) != len(references):
            raise ValueError(f"got {len(valid_masks)} valid_masks for {len(references)} images")
        rows = [
            score_image(np.array(prediction), np.array(reference), valid_mask, self.threshold, self.names)
            for prediction, reference, valid_mask in zip(predictions, references, valid_masks, strict=True)
        ]
        means = score_set(rows)
        return {name: means[name] for name in self.names}
