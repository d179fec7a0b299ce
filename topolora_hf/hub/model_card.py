"""The model card of an adapter: metadata that the Hub indexes, and a page that a stranger can work from."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..adapter_format.names import EMBEDDED, PRETRAINED, full_base_name
from ..data.catalog import CATALOG, DatasetSpec
from ..data.records import printable

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

METRIC_NAMES = {
    "dice": "Dice",
    "iou": "IoU",
    "precision": "Precision",
    "recall": "Recall",
    "cldice": "clDice",
    "auroc": "AUROC",
    "average_precision": "Average precision",
    "bfscore": "Boundary F-score",
    "relaxed_precision": "Precision within 2 pixels",
    "relaxed_recall": "Recall within 2 pixels",
    "relaxed_f1": "F1 within 2 pixels",
    "betti0_error": "Betti-0 error",
    "betti1_error": "Betti-1 error",
    "ece": "Expected calibration error",
    "ece_foreground": "Expected calibration error, foreground",
}
_ACCURACIES = {
    "accuracy_on_structure": "Accuracy on the true structure (pixels of exactly one class that were given it)",
    "accuracy_on_found_structure": "The same, of the pixels that were found to be of any class",
    "accuracy_by_probability": "Of the pixels of exactly one class, those whose class is the most probable",
}
# The card's examples name an adapter without a repository so.
ADAPTER_PLACE = "path/to/the/adapter"
# Settings that the training table shows: none of them is a path.
_TRAINING = "preset protocol split annotator seed validation_fraction image_size tile_size view detail_channels"
_TRAINING += " detail_context rank lora lora_targets decoder_init max_steps epochs batch_size"
_TRAINING += " gradient_accumulation_steps"
_TRAINING += " learning_rate detail_learning_rate weight_decay warmup_fraction max_grad_norm mixed_precision"
_TRAINING += " cldice_weight cldice_schedule target_skeleton skeleton_iterations augmentation zoom noise"
_TRAINING += " test_time_flips"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def render_model_card(
    settings: Mapping[str, object],
    metrics: Mapping[str, object],
    *,
    repo_id: str | None = None,
    parameters: Sequence[Mapping[str, object]] = (),
    dataset: DatasetSpec | None = None,
    licence: str = "apache-2.0",
) -> "ModelCard":
    """Render the card of one adapter. Nothing is uploaded, and no local path gets onto the card.

    Args:
        settings: What the adapter was trained with; without `base` or `dataset` it is a ValueError. Of a local folder
            or base the card names the last part alone.
        metrics: `metrics.json` of the run, or empty if nothing was scored. Scores that are NaN or missing are left out.
        repo_id: The adapter's Hub id, such as "someone/drive-vessels", for the card's examples.
        parameters: Rows with `part`, `trainable` and `total`, as `topolora_hf.parameter_table` returns them.
        dataset: What is known of the data, as `find_dataset` returns it; None: looked up by `settings`. A folder may
            have the name of a known data set.
        licence: Of the adapter, by the Hub's identifier.

    Example:
        >>> card = render_model_card({"base": "facebook/sam-vit-base", "dataset": "drive"}, {"dice": 0.82, "n": 20})
        >>> card.data.base_model, card.data.eval_results[0].metric_value
        ('facebook/sam-vit-base', 0.82)
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    for needed in ("base", "dataset"):
        if not settings.get(needed):
            raise ValueError(f"the model card needs settings[{needed!r}], got only {', '.join(settings) or 'nothing'}")
    settings = {"use_sam": True, "exclusive": False, "temperature": 1.0, "logit_bias": 0.0, **settings}
    dataset = _in_public(dataset or _look_up(str(settings["dataset"])))
    base, kind = _describe_base(str(settings["base"]))
    metrics = {name: value for name, value in metrics.items() if not (isinstance(value, float) and math.isnan(value))}
    labels = [_cell(label) for label in settings.get("labels") or ("foreground",)]
    parts = _parts(metrics)
    scores = {name: [_defined(own.get(name)) for _, own in parts] for name in METRIC_NAMES}
    scores = {name: values for name, values in scores.items() if any(value is not None for value in values)}
    threshold = metrics.get("threshold", settings.get("threshold", 0.5))
    of_parts = [threshold, *threshold, threshold] if isinstance(threshold, list | tuple) else [threshold] * len(parts)
    name = repo_id.split("/")[-1] if repo_id else f"topolora-{_slug(dataset.name)}"
    results = [
        EvalResult(
            task_type="image-segmentation",
            dataset_type=dataset.hub_id or _slug(dataset.name),
            dataset_name=dataset.title,
            dataset_split=metrics.get("split"),
            metric_type=metric,
            metric_name=f"{METRIC_NAMES[metric]}, {part}" if place else METRIC_NAMES[metric],
            metric_value=round(float(value), 4),
            metric_args={"threshold": of_parts[place]},
        )
        for metric, values in scores.items()
        for place, ((part, _), value) in enumerate(zip(parts, values, strict=True))
        if value is not None
    ]
    data = ModelCardData(
        license=licence,
        library_name="peft",
        pipeline_tag="image-segmentation",
        base_model=base if kind == "hub" else None,
        datasets=[dataset.hub_id] if dataset.hub_id else None,
        tags=["topolora-sam", "segment-anything", "lora"] + ["thin-structures"] * dataset.thin_structures,
        metrics=list(scores) or None,
        model_name=name,
        eval_results=results or None,
    )
    return ModelCard.from_template(
        data,
        template_str=files(__package__).joinpath("adapter_card.md").read_text(encoding="utf-8"),
        title=name,
        repo_id=repo_id or ADAPTER_PLACE,
        base=base,
        base_kind=kind,
        dataset=dataset,
        settings=settings,
        shown={name: _numbers(settings[name], 3) for name in ("temperature", "logit_bias")},
        labels=labels,
        metrics=metrics,
        threshold=_numbers(threshold, 4),
        columns=[part for part, _ in parts],
        scores=[
            (METRIC_NAMES[key], ["-" if value is None else f"{value:.3f}" for value in values])
            for key, values in scores.items()
        ],
        accuracies=[(text, metrics[key]) for key, text in _ACCURACIES.items() if metrics.get(key) is not None],
        training=[(key, _cell(settings[key])) for key in _TRAINING.split() if settings.get(key) not in (None, "")],
        parameters=parameters,
    )


def _parts(metrics: Mapping[str, object]) -> list[tuple[str, Mapping]]:
    """The columns of the table of scores, and where their values are. The first is that of the whole."""
    if "classes" not in metrics:
        return [("value", metrics)]
    of_classes = [(_cell(label), own) for label, own in metrics["classes"].items()]
    return [("mean", metrics), *of_classes, ("all together", metrics["all"])]


def _defined(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _numbers(value: float | Sequence[float], digits: int) -> str:
    """Write a number, or one for each class where they differ."""
    texts = [f"{number:.{digits}g}" for number in np.ravel(value)]
    return texts[0] if len(set(texts)) == 1 else ", ".join(texts)


def _look_up(name_or_path: str) -> DatasetSpec:
    """Find the catalogue's entry, or make one of a Hub data set or a folder."""
    if name_or_path.lower() in CATALOG:
        return CATALOG[name_or_path.lower()]
    return replace(CATALOG["folder"], name=name_or_path, hub_id=name_or_path if _is_hub_id(name_or_path) else None)


def _in_public(dataset: DatasetSpec) -> DatasetSpec:
    """What can be said in public of a Hub data set or a folder; a known data set as it is."""
    folder = CATALOG["folder"]
    if dataset == folder or dataset.title != folder.title:
        return dataset
    name, hub_id = _last_part(dataset.name), dataset.hub_id
    if hub_id:
        url = f"https://huggingface.co/datasets/{hub_id}"
        return DatasetSpec(name=name, title=hub_id, hub_id=hub_id, url=url)
    return DatasetSpec(name=name, title=f"a folder of images and masks of the author's own ({_cell(name)})")


def _describe_base(base: str) -> tuple[str, str]:
    """Return the base's name as it may be published, and its kind: hub, local, pretrained or random."""
    base = full_base_name(base)
    if base in EMBEDDED:
        return base, "pretrained" if base in PRETRAINED else "random"
    return (base, "hub") if _is_hub_id(base) else (_last_part(base), "local")


def _is_hub_id(name: str) -> bool:
    return bool(_HUB_ID.fullmatch(name)) and not Path(name).exists()


def _last_part(path: str) -> str:
    return printable(re.split(r"[/\\]+", path.rstrip("/\\"))[-1]) or "unnamed"


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "unnamed"


def _cell(value: object) -> str:
    """Make a text that cannot end a table cell or a line."""
    return re.sub(r"\s+", " ", str(value)).replace("|", "\\|")
