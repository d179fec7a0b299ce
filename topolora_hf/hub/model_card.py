"""The model card of an adapter: metadata that the Hub indexes and a page that a stranger can work from."""

import math
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..adapter_format.names import EMBEDDED, full_base_name
from ..data.catalog import CATALOG, DatasetSpec
from ..data.records import printable
from ..network.embedded import PRETRAINED

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
# How the card's examples call an adapter that has no repository yet.
ADAPTER_PLACE = "path/to/the/adapter"
# Said elsewhere on the card, or nothing that training depends on.
_NOT_IN_TRAINING_TABLE = {"base", "dataset", "threshold", "labels", "image_mean", "image_std"}
_NOT_IN_TRAINING_TABLE |= {"push_to_hub", "hub_model_id", "private", "resume", "network", "skip_bad"}
_NOT_IN_TRAINING_TABLE |= {"overwrite", "checkpoint_every", "on_non_finite", "auto_batch_size", "float64"}
_NOT_IN_TRAINING_TABLE |= {"num_workers", "num_threads", "log_every", "log_with", "score_untrained"}
_PROTOCOLS = {
    "native": "at their own resolution, inside the field of view where there is one",
    "paper": "squashed to 384 x 384 pixels without a field of view, as the paper's authors score",
}
_DRAWINGS_LIMITS = (
    "Its base is small and has seen synthetic drawings only, no photograph; it has none of the weights of a published "
    "Segment Anything model."
)
_RANDOM_LIMITS = (
    "Its base has random weights, not those of a pretrained Segment Anything model: all it knows comes from the data "
    "above."
)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def render_model_card(
    settings: Mapping[str, object],
    metrics: Mapping[str, object],
    *,
    repo_id: str | None = None,
    parameters: Sequence[Mapping[str, object]] = (),
    licence: str = "apache-2.0",
) -> ModelCard:
    """Render the card of one adapter. Nothing is uploaded and no local path gets onto the card.

    Args:
        settings: What the adapter was trained with; `base` and `dataset` are needed. `threshold`, `view`,
            `tile_size`, `disc_diameter`, `disc_colours`, `temperature`, `logit_bias`, `use_sam` and
            `cldice_weight` are put in words; numbers, names and switches fill the training table. What is or may be a
            path is left out, and a folder or a local base goes by its last part.
        metrics: `metrics.json` of the run: scores by the names of `METRIC_NAMES`, `dice_before` (the untrained
            network's), and `dataset`, `split`, `protocol`, `threshold`, `n`. Empty where nothing was scored; scores
            that are NaN or missing are left out.
        repo_id: The adapter's Hub id, such as "someone/drive-vessels"; without it the card's examples say
            "path/to/the/adapter".
        parameters: Rows with `part`, `trainable` and `total`, as `topolora_hf.parameter_table` gives them.
        licence: Of the adapter, by the Hub's identifier.

    Returns:
        huggingface_hub.ModelCard: Its `data` holds the metadata with the scores as `eval_results`; `save(path)` writes
        the `README.md`.

    Raises:
        ValueError: If `settings` lacks `base` or `dataset`.

    Example:
        >>> card = render_model_card({"base": "facebook/sam-vit-base", "dataset": "drive"}, {"dice": 0.82, "n": 20})
        >>> card.data.base_model, card.data.eval_results[0].metric_value
        ('facebook/sam-vit-base', 0.82)
    """
    for needed in ("base", "dataset"):
        if not settings.get(needed):
            raise ValueError(f"the model card needs settings[{needed!r}], got only {', '.join(settings) or 'nothing'}")
    base, dataset = str(settings["base"]), _describe_dataset(str(settings["dataset"]))
    scores = {name: metrics[name] for name in METRIC_NAMES if _is_defined(metrics.get(name))}
    threshold = metrics.get("threshold", settings.get("threshold", 0.5))
    temperature, logit_bias = settings.get("temperature", 1.0), settings.get("logit_bias", 0.0)
    name = repo_id.split("/")[-1] if repo_id else f"topolora-{_slug(dataset.name)}"
    data = ModelCardData(
        license=licence,
        library_name="peft",
        pipeline_tag="image-segmentation",
        base_model=base if _is_hub_id(base) else None,
        datasets=[dataset.hub_id] if dataset.hub_id else None,
        tags=["topolora-sam", "segment-anything", "lora"] + ["thin-structures"] * dataset.thin_structures,
        metrics=list(scores) or None,
        model_name=name,
        eval_results=_eval_results(scores, metrics, dataset, threshold) or None,
    )
    before = {"dice_before": metrics["dice_before"]} if _is_defined(metrics.get("dice_before")) else {}
    return ModelCard.from_template(
        data,
        template_str=files(__package__).joinpath("adapter_card.md").read_text(encoding="utf-8"),
        title=name,
        repo_id=repo_id or ADAPTER_PLACE,
        base_text=_base_text(base),
        base_limits=_base_limits(base),
        private_base=None if _is_embedded(base) or _is_hub_id(base) else _last_part(base),
        dataset_text=f"[{dataset.title}]({dataset.url})" if dataset.url else dataset.title,
        dataset_licence=dataset.licence,
        dataset_note=dataset.note,
        dataset_limits=dataset.limits,
        dataset_citation=dataset.citation,
        input_text=_input_text(settings),
        use_sam=settings.get("use_sam", True),
        loss_text=_loss_text(settings),
        calibrated=(temperature, logit_bias) != (1.0, 0.0),
        temperature=f"{temperature:.3g}",
        logit_bias=f"{logit_bias:.3g}",
        threshold=f"{threshold:.4g}",
        scored_on=_scored_on(metrics, dataset, threshold),
        scores=[(_score_name(key), f"{value:.3f}") for key, value in (scores | before).items()],
        training=[(key, _cell(value)) for key, value in settings.items() if _belongs_in_training_table(key, value)],
        parameters=[(row["part"], f"{row['trainable']:,}", f"{row['total']:,}") for row in parameters],
    )


def _eval_results(
    scores: Mapping[str, float], metrics: Mapping[str, object], dataset: DatasetSpec, threshold: float
) -> list[EvalResult]:
    return [
        EvalResult(
            task_type="image-segmentation",
            dataset_type=dataset.hub_id or _slug(dataset.name),
            dataset_name=dataset.title,
            dataset_split=metrics.get("split"),
            metric_type=name,
            metric_name=METRIC_NAMES[name],
            metric_value=round(float(value), 4),
            metric_args={"threshold": threshold},
        )
        for name, value in scores.items()
    ]


def _describe_dataset(name_or_path: str) -> DatasetSpec:
    """The catalogue's entry; for a Hub data set or a folder an entry of what can be said in public."""
    if name_or_path.lower() in CATALOG:
        return CATALOG[name_or_path.lower()]
    if _is_hub_id(name_or_path):
        url = f"https://huggingface.co/datasets/{name_or_path}"
        return DatasetSpec(name=name_or_path.split("/")[-1], title=name_or_path, hub_id=name_or_path, url=url)
    folder = _last_part(name_or_path)
    return DatasetSpec(name=folder, title=f"a folder of images and masks of the author's own ({_cell(folder)})")


def _is_embedded(base: str) -> bool:
    return full_base_name(base) in EMBEDDED


def _is_hub_id(name: str) -> bool:
    return bool(_HUB_ID.fullmatch(name)) and not _is_embedded(name) and not Path(name).exists()


def _base_limits(base: str) -> str | None:
    if not _is_embedded(base):
        return None
    return _DRAWINGS_LIMITS if full_base_name(base) in PRETRAINED else _RANDOM_LIMITS


def _base_text(base: str) -> str:
    if _is_embedded(base):
        is_pretrained = full_base_name(base) in PRETRAINED
        what = "small network pretrained on synthetic images" if is_pretrained else "network with seeded random weights"
        return f"`{full_base_name(base)}`, a {what} that comes with the package (nothing to download)"
    if _is_hub_id(base):
        return f"[{base}](https://huggingface.co/{base})"
    return f"`{_last_part(base)}`, a checkpoint that has not been published under a Hub id"


def _input_text(settings: Mapping[str, object]) -> str:
    side = f" of {settings['tile_size']} x {settings['tile_size']} pixels" if "tile_size" in settings else ""
    if settings.get("view") == "whole":
        return f"an RGB image, resized as a whole to one tile{side}"
    tiles = f"an RGB image, read in overlapping tiles{side} at its own resolution"
    brought = []
    if settings.get("disc_diameter"):
        brought.append(f"to the scale of those trained on, {round(settings['disc_diameter'])} pixels across")
    if settings.get("disc_colours"):
        brought.append("to their colours where another camera's differ")
    return f"{tiles}; a photograph of a retina is brought {' and '.join(brought)}" if brought else tiles


def _loss_text(settings: Mapping[str, object]) -> str:
    weight = settings.get("cldice_weight")
    if weight == 0:
        return "is binary cross-entropy + Dice"
    return "is binary cross-entropy + Dice + " + (f"{weight:g} clDice" if weight else "weighted clDice")


def _scored_on(metrics: Mapping[str, object], dataset: DatasetSpec, threshold: float) -> str:
    images = f"{metrics['n']} images" if "n" in metrics else "the images"
    split = f"the {metrics['split']} split" if "split" in metrics else "an unnamed split"
    protocol = f", {_PROTOCOLS[metrics['protocol']]}" if metrics.get("protocol") in _PROTOCOLS else ""
    return f"{images} of {split} of {dataset.title}{protocol}, threshold {threshold:.4g}"


def _score_name(key: str) -> str:
    return "Dice before training" if key == "dice_before" else METRIC_NAMES[key]


def _is_defined(value: object) -> bool:
    return isinstance(value, int | float) and not math.isnan(value)


def _belongs_in_training_table(key: str, value: object) -> bool:
    """Numbers, switches and names; never what is a path by its name or might be one by its look."""
    if key in _NOT_IN_TRAINING_TABLE or key.endswith(("_dir", "_path", "_file", "_from_checkpoint")):
        return False
    if isinstance(value, str):
        return value != "" and not re.search(r"[/\\~]", value)
    return isinstance(value, bool | int | float)


def _last_part(path: str) -> str:
    return printable(re.split(r"[/\\]+", path.rstrip("/\\"))[-1]) or "unnamed"


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "unnamed"


def _cell(value: object) -> str:
    """Text that cannot end a table cell or a line."""
    return re.sub(r"\s+", " ", str(value)).replace("|", "\\|")
