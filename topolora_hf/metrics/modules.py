"""The metrics as `evaluate.Metric` classes, for `evaluate.combine` and everything else that speaks `evaluate`.

They need no download: the computations are the functions of this package.
"""

from collections.abc import Callable, Sequence

import evaluate
import numpy as np
from datasets import Features, Value
from datasets import Sequence as Nested

from .boundary import bfscore
from .calibration import ece, ece_foreground
from .masks import as_mask, as_probability
from .overlap import (
    dice,
    iou,
    precision,
    recall,
)
from .ranking import auroc, average_precision
from .relaxed import relaxed_f1, relaxed_precision, relaxed_recall
from .report import MASK_METRICS, score_set
from .topology import betti0_error, betti1_error, cldice

_INPUTS = """
Args:
    predictions: list of {what} (H, W); sizes may differ from image to image.
    references: list of masks (H, W), bool or 0/1, each of its prediction's size.
    valid_masks: list of masks (H, W), true where an image is to be scored; optional, for `compute` only, and then one
        for every image added before.
    Further settings of the metric, such as a tolerance or a number of bins, are given to `compute` by name.
Returns:
    dict: the metric's name and its mean over the images where it is defined (NaN where it is on none).
"""

_CLDICE_CITATION = """@inproceedings{shit2021cldice,
  title={clDice - A Novel Topology-Preserving Loss Function for Tubular Structure Segmentation},
  author={Shit, Suprosanna and Paetzold, Johannes C. and others},
  booktitle={CVPR}, year={2021}, eprint={2003.07311}, archivePrefix={arXiv}}"""


class ImageMetric(evaluate.Metric):
    """Mean over images of a function of (prediction, target, valid_mask); one subclass a function.

    Nested sequences are the feature that holds arrays of any size in one column (`Array2D` fixes the width). Those of
    bool would also swallow probabilities, as foreground wherever above zero, so arrays are checked on their way in.
    """

    result_name: str
    function: Callable[..., float]
    citation_text: str

    @property
    def _takes_masks(self) -> bool:
        return self.result_name in MASK_METRICS

    def _info(self) -> evaluate.MetricInfo:
        what = "masks, bool or 0/1" if self._takes_masks else "foreground probabilities in [0, 1]"
        prediction = Value("bool") if self._takes_masks else Value("float64")
        return evaluate.MetricInfo(
            description=self.function.__doc__,
            citation=self.citation_text,
            inputs_description=_INPUTS.format(what=what),
            features=Features({"predictions": Nested(Nested(prediction)), "references": Nested(Nested(Value("bool")))}),
        )

    def add(self, *, prediction=None, reference=None, predictions=None, references=None) -> None:
        """Add one prediction (H, W) and its true mask (H, W)."""
        # `evaluate.combine` hands one pair over under the plural names.
        prediction = predictions if prediction is None else prediction
        reference = references if reference is None else reference
        self.add_batch(predictions=[prediction], references=[reference])

    def add_batch(self, *, predictions=None, references=None, **kwargs) -> None:
        """Add a list of predictions (H, W) and a list of true masks (H, W)."""
        check = as_mask if self._takes_masks else as_probability
        predictions = [check(array, "prediction") for array in predictions]
        references = [as_mask(mask, "reference") for mask in references]
        evaluate.Metric.add_batch(self, predictions=predictions, references=references, **kwargs)

    def _compute(
        self, predictions: Sequence, references: Sequence, valid_masks: Sequence | None = None, **settings
    ) -> dict:
        if valid_masks is None:
            valid_masks = [None] * len(references)
        if len(valid_masks) != len(references):
            raise ValueError(f"got {len(valid_masks)} valid_masks for {len(references)} images")
        triples = zip(predictions, references, valid_masks, strict=True)
        rows = [
            {self.result_name: self.function(np.array(prediction), np.array(reference), valid_mask, **settings)}
            for prediction, reference, valid_mask in triples
        ]
        return {self.result_name: score_set(rows)[self.result_name]}


def _metric_class(class_name: str, function: Callable[..., float], citation: str = "") -> type[ImageMetric]:
    attributes = {
        "__doc__": f"`topolora_hf.metrics.{function.__name__}`, averaged over images, as an `evaluate.Metric`.",
        "__module__": __name__,
        "result_name": function.__name__,
        "function": staticmethod(function),
        "citation_text": citation,
    }
    return type(class_name, (ImageMetric,), attributes)


DiceMetric = _metric_class("DiceMetric", dice)
IoUMetric = _metric_class("IoUMetric", iou)
PrecisionMetric = _metric_class("PrecisionMetric", precision)
RecallMetric = _metric_class("RecallMetric", recall)
ClDiceMetric = _metric_class("ClDiceMetric", cldice, _CLDICE_CITATION)
BFScoreMetric = _metric_class("BFScoreMetric", bfscore)
RelaxedPrecisionMetric = _metric_class("RelaxedPrecisionMetric", relaxed_precision)
RelaxedRecallMetric = _metric_class("RelaxedRecallMetric", relaxed_recall)
RelaxedF1Metric = _metric_class("RelaxedF1Metric", relaxed_f1)
Betti0ErrorMetric = _metric_class("Betti0ErrorMetric", betti0_error)
Betti1ErrorMetric = _metric_class("Betti1ErrorMetric", betti1_error)
AUROCMetric = _metric_class("AUROCMetric", auroc)
AveragePrecisionMetric = _metric_class("AveragePrecisionMetric", average_precision)
ECEMetric = _metric_class("ECEMetric", ece)
ForegroundECEMetric = _metric_class("ForegroundECEMetric", ece_foreground)
