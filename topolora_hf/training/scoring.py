"""Scores of a split at full resolution, shared out over the processes and gathered by image; and metrics.json."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import gather_object
from tqdm import tqdm

from ..adapter_format.settings import AdapterSettings
from ..inference.predictor import Predictor
from ..metrics.calibration import Reliability, reliability
from ..metrics.report import score_images, summarise, write_per_image_csv
from ..metrics.thresholds import ThresholdCounts, threshold_counts
from ..pictures.plots import save_precision_recall, save_reliability, save_score_distribution
from ..pictures.samples import BestAndWorst, save_best_and_worst, save_samples

_SAMPLES = 6


@dataclass
class SplitScores:
    """What was measured on a split, in the order of its images."""

    rows: list[dict]  # of scores, one an image
    counts: list[ThresholdCounts]  # for precision and recall, one an image
    reliabilities: list[Reliability]  # one an image
    samples: list[dict]  # the first images, with their `probability`
    best_and_worst: list[dict]  # by Dice, likewise

    def metrics(self, settings: AdapterSettings, dataset: str | None, split: str, protocol: str, **more) -> dict:
        """Build what metrics.json holds: what was scored, how, `more`, and the scores with their intervals."""
        scored = {"dataset": dataset, "split": split, "protocol": protocol}
        scored |= {"preset": settings.preset, "base": settings.base or None}
        how = {name: getattr(settings, name) for name in ("threshold", "temperature", "logit_bias", "test_time_flips")}
        scales = {"test_time_scales": list(settings.test_time_scales)}
        return {**scored, **how, **scales, **more, **summarise(self.rows)}

    def save(self, directory: Path, threshold: float) -> None:
        """Write per_image.csv and the pictures: samples, best and worst, precision and recall, reliability."""
        write_per_image_csv(directory / "per_image.csv", self.rows)
        save_samples(directory / "samples.png", self.samples, threshold)
        save_score_distribution(directory / "score_distribution.png", self.rows)
        save_reliability(directory / "reliability.png", self.reliabilities)
        if any(image.true for image in self.counts):  # an empty target has no such curve, nor a Dice
            save_precision_recall(directory / "precision_recall.png", self.counts, threshold)
        if self.best_and_worst:
            save_best_and_worst(directory / "best_and_worst.png", self.best_and_worst, threshold)


def score_rows(
    predictor: Predictor, rows: Sequence[dict], accelerator: Accelerator | None = None, description: str = "scoring"
) -> SplitScores:
    """Predict and score every image inside its field of view. Images are scored while the next are predicted.

    Args:
        predictor: with the threshold in its settings.
        rows: decoded rows (`id`, `image`, `mask`, `valid_mask`), for example a split of `load_segmentation_data`.
        accelerator: shares the images out, and gives all processes the same; None scores all images here.
        description: of the progress bar.
    """
    index, count = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    mine = range(index, len(rows), count)
    threshold = predictor.settings.threshold
    extremes = BestAndWorst(threshold)
    curves, samples = [], []

    def predictions() -> Iterator[dict]:
        for number in tqdm(mine, desc=description, leave=False, disable=index != 0):
            row = rows[number]
            mask = row["mask"].any(axis=0)
            sample = {**row, "mask": mask, "probability": predictor.probability(row["image"], row["id"])}
            seen = sample["probability"], sample["mask"], sample["valid_mask"]
            curves.append((threshold_counts(*seen), reliability(*seen)))
            extremes.add(sample)
            if number < _SAMPLES:
                samples.append((number, sample))
            yield sample

    scores = score_images(predictions(), threshold)
    of_images = [(number, row, *of_image) for number, row, of_image in zip(mine, scores, curves, strict=True)]
    best_and_worst = [sample for _, sample in extremes.ranked]
    if accelerator is not None:
        of_images, samples, best_and_worst = map(gather_object, (of_images, samples, best_and_worst))
    of_images, samples = (sorted(items, key=lambda item: item[0]) for items in (of_images, samples))
    columns = ([item[place] for item in of_images] for place in (1, 2, 3))
    return SplitScores(*columns, [sample for _, sample in samples], best_and_worst)
