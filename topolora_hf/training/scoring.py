"""Scores of a split at full resolution, shared out over the processes and gathered by image; and metrics.json."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import gather_object
from tqdm import tqdm

from ..adapter_format.settings import AdapterSettings
from ..inference.prediction import Prediction
from ..inference.predictor import Predictor
from ..metrics.calibration import Reliability, reliability
from ..metrics.confusion import accuracy_by_probability, accuracy_on_structure, confusion, confusion_table
from ..metrics.report import METRICS, score_images, score_set, summarise, write_per_image_csv
from ..metrics.thresholds import ThresholdCounts, threshold_counts
from ..pictures.plots import save_precision_recall, save_reliability, save_score_distribution
from ..pictures.samples import BestAndWorst, save_best_and_worst, save_samples

_SAMPLES = 6
_ACCURACIES = ("accuracy_on_structure", "accuracy_on_found_structure", "accuracy_by_probability")


@dataclass
class ImageCounts:
    """Pixels of an image that are added up over a set."""

    curves: list[ThresholdCounts]  # for precision and recall, one a class
    reliabilities: list[Reliability]  # one a class
    confusion: Counter
    accuracy_by_probability: float  # NaN with one class
    is_finer: bool  # as `Prediction.is_finer`


@dataclass
class SplitScores:
    """What was measured on a split, in the order of its images.

    Of several classes, `rows` has a row an image and class, and `of_any` one an image: all classes taken for one.
    """

    labels: tuple[str, ...]
    thresholds: tuple[float, ...]  # one a class
    rows: list[dict]  # of scores
    of_any: list[dict]  # of scores, and the accuracies on the structure; empty with one class
    counts: list[ImageCounts]  # one an image
    samples: list[dict]  # the first images, with their `probabilities` and predicted `masks`
    best_and_worst: list[dict]  # by Dice, likewise

    def metrics(self, settings: AdapterSettings, dataset: str | None, split: str, protocol: str, **more) -> dict:
        """Build what metrics.json holds: what was scored, how, `more`, and the scores with their intervals."""
        scored = {"dataset": dataset, "split": split, "protocol": protocol}
        scored |= {"preset": settings.preset, "base": settings.base or None}
        names = ("threshold", "temperature", "logit_bias", "test_time_flips", "test_time_scales")
        how = {name: getattr(settings, name) for name in names}
        how = {name: list(value) if isinstance(value, tuple) else value for name, value in how.items()}
        if finer := sum(image.is_finer for image in self.counts):
            how["finer_images"] = finer
        return {**scored, **how, **more, **self._summary(settings)}

    def _summary(self, settings: AdapterSettings) -> dict:
        summary = summarise(self.rows)
        if not self.of_any:
            return summary
        together = summarise(self.of_any)
        for name in _ACCURACIES:
            summary[name], summary["intervals"][name] = together.pop(name), together["intervals"].pop(name)
        table = confusion_table(sum((image.confusion for image in self.counts), Counter()), self.labels)
        of_classes = {"labels": list(self.labels), "exclusive": settings.exclusive}
        return {**of_classes, **summary, "all": together, "confusion": table}

    def means(self) -> dict[str, float]:
        """`score_set` of the rows, and of several classes Dice and clDice of each, as `dice_artery`."""
        means = score_set(self.rows)
        for label in self.labels if self.of_any else ():
            of_class = score_set([row for row in self.rows if row["class"] == label])
            means |= {f"{name}_{label}": of_class[name] for name in ("dice", "cldice")}
        return means

    def save(self, directory: Path) -> None:
        """Write per_image.csv and the pictures: samples, best and worst, precision and recall, reliability."""
        write_per_image_csv(directory / "per_image.csv", self.rows)
        save_samples(directory / "samples.png", self.samples, self.labels)
        save_score_distribution(directory / "score_distribution.png", self.rows)
        places = dict(enumerate(self.labels))
        reliabilities = {label: [image.reliabilities[k] for image in self.counts] for k, label in places.items()}
        save_reliability(directory / "reliability.png", reliabilities)
        curves = {label: [image.curves[k] for image in self.counts] for k, label in places.items()}
        if any(image.true for own in curves.values() for image in own):  # an empty target has no curve, nor a Dice
            save_precision_recall(directory / "precision_recall.png", curves, self.thresholds)
        if self.best_and_worst:
            save_best_and_worst(directory / "best_and_worst.png", self.best_and_worst, self.labels)


def score_rows(
    predictor: Predictor,
    rows: Sequence[dict],
    accelerator: Accelerator | None = None,
    description: str = "scoring",
    more_metrics: Sequence[str] = (),
) -> SplitScores:
    """Predict and score every image inside its field of view. Images are scored while the next are predicted.

    Args:
        predictor: with the thresholds in its settings.
        rows: decoded rows (`id`, `image`, `mask`, `valid_mask`), for example a split of `load_segmentation_data`. Their
            masks are of the classes that the predictor has, in its order.
        accelerator: shares the images out, and gives all processes the same; None scores all images here.
        description: of the progress bar.
        more_metrics: names of `ON_REQUEST` to compute beside the usual ones.

    Raises:
        ValueError: The masks have another number of classes than the predictor.
    """
    index, count = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    mine = range(index, len(rows), count)
    extremes = BestAndWorst()
    counts, samples = [], []

    def parts() -> Iterator[dict]:
        for number in tqdm(mine, desc=description, leave=False, disable=index != 0):
            row = rows[number]
            prediction = predictor(row["image"], row["id"])
            of_image = _parts(row, prediction)
            counts.append(_counts(row, prediction, of_image))
            sample = {**row, "probabilities": prediction.probabilities, "masks": prediction.masks}
            extremes.add(sample)
            if number < _SAMPLES:
                samples.append((number, sample))
            yield from of_image

    scores, settings = score_images(parts(), names=(*METRICS, *more_metrics)), predictor.settings
    each = len(scores) // max(1, len(mine))  # one a class, and of several one of all together
    by_image = [scores[first : first + each] for first in range(0, len(scores), each or 1)]
    of_images = list(zip(mine, by_image, counts, strict=True))
    best_and_worst = [sample for _, sample in extremes.ranked]
    if accelerator is not None:
        of_images, samples, best_and_worst = map(gather_object, (of_images, samples, best_and_worst))
    of_images, samples = (sorted(items, key=lambda item: item[0]) for items in (of_images, samples))
    scored, counts = ([item[place] for item in of_images] for place in (1, 2))
    classes = settings.num_labels
    rows_of_all = [row for of_image in scored for row in of_image[:classes]]
    of_any = [
        _with_accuracy(*of_image[classes:], image)
        for of_image, image in zip(scored, counts, strict=True)
        if classes > 1
    ]
    samples = [sample for _, sample in samples]
    return SplitScores(settings.labels, settings.thresholds, rows_of_all, of_any, counts, samples, best_and_worst)


def _parts(row: dict, prediction: Prediction) -> list[dict]:
    """What is scored of an image: its only class, or each class by its name, and then all of them taken for one."""
    if len(row["mask"]) != len(prediction.labels):
        raise ValueError(
            f"image {row['id']} has masks of {len(row['mask'])} classes, the network predicts "
            f"{len(prediction.labels)} ({', '.join(prediction.labels)})"
        )
    maps = zip(prediction.labels, prediction.probabilities, prediction.masks, row["mask"], strict=True)
    if len(row["mask"]) > 1:
        maps = [*maps, (None, prediction.probability, prediction.mask, row["mask"].any(axis=0))]
    common = {"id": row["id"], "valid_mask": row["valid_mask"]}
    parts = [{**common, "class": name, "probability": p, "prediction": m, "mask": t} for name, p, m, t in maps]
    return parts if len(parts) > 1 else [{name: value for name, value in parts[0].items() if name != "class"}]


def _counts(row: dict, prediction: Prediction, parts: list[dict]) -> ImageCounts:
    seen = [(part["probability"], part["mask"], row["valid_mask"]) for part in parts[: len(row["mask"])]]
    mixed, accuracy = Counter(), math.nan
    if len(seen) > 1:
        mixed = confusion(prediction.masks, row["mask"], row["valid_mask"])
        accuracy = accuracy_by_probability(prediction.probabilities, row["mask"], row["valid_mask"])
    curves, reliabilities = zip(*((threshold_counts(*item), reliability(*item)) for item in seen), strict=True)
    return ImageCounts(list(curves), list(reliabilities), mixed, accuracy, prediction.is_finer)


def _with_accuracy(row: dict, counts: ImageCounts) -> dict:
    shares = (*accuracy_on_structure(counts.confusion), counts.accuracy_by_probability)
    scores = {name: value for name, value in row.items() if name != "class"}
    return scores | dict(zip(_ACCURACIES, shares, strict=True))
