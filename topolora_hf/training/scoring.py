"""Scores of a split at full resolution, shared out over the processes and gathered by image."""

from collections.abc import Sequence

from accelerate import Accelerator
from accelerate.utils import gather_object
from tqdm import tqdm

from ..inference.predictor import Predictor
from ..metrics import score_image


def score_rows(
    predictor: Predictor,
    rows: Sequence[dict],
    accelerator: Accelerator | None = None,
    keep_samples: int = 0,
    description: str = "scoring",
) -> tuple[list[dict], list[dict]]:
    """Predicts and scores every image inside its field of view.

    Args:
        predictor: with the threshold in its settings.
        rows: decoded rows (`id`, `image`, `mask`, `valid_mask`), for example a split of `load_segmentation_data`.
        accelerator: shares the images out; None scores them all here.
        keep_samples: how many of the first images are returned with their `probability`, for pictures.
        description: of the progress bar.

    Returns:
        One dict of scores an image, in the order of `rows` on every process; and the kept samples.
    """
    index, count = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    scores, samples = [], []
    mine = range(index, len(rows), count)
    for number in tqdm(mine, desc=description, leave=False, disable=index != 0):
        row = rows[number]
        probability = predictor.probability(row["image"])
        values = score_image(probability, row["mask"] == 1, row["valid_mask"], predictor.settings.threshold)
        scores.append((number, {"id": row["id"], **values}))
        if number < keep_samples:
            samples.append((number, {**row, "probability": probability}))
    if accelerator is not None:
        scores, samples = gather_object(scores), gather_object(samples)
    by_number = sorted(scores, key=lambda pair: pair[0])
    return [row for _, row in by_number], [row for _, row in sorted(samples, key=lambda pair: pair[0])]
