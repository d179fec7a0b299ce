"""Studies: lists of runs as single commands, and the tables and pictures that they give."""

from .ablate import AblateArguments, ablate_main, plan_ablate
from .backbones import BackbonesArguments, backbones_main, plan_backbones
from .compare import CompareArguments, compare_main, plan_compare
from .cross_dataset import CrossDatasetArguments, cross_dataset_main, plan_cross_dataset
from .few_labels import FewLabelsArguments, few_labels_main, plan_few_labels
from .study import Study, run_study

__all__ = [
    "AblateArguments",
    "BackbonesArguments",
    "CompareArguments",
    "CrossDatasetArguments",
    "FewLabelsArguments",
    "Study",
    "ablate_main",
    "backbones_main",
    "compare_main",
    "cross_dataset_main",
    "few_labels_main",
    "plan_ablate",
    "plan_backbones",
    "plan_compare",
    "plan_cross_dataset",
    "plan_few_labels",
    "run_study",
]
