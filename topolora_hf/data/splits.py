"""Which rows are trained on and which are held out: by seed, whatever order the files are listed in."""

from collections.abc import Sequence

import numpy as np

from .errors import DataError
from .records import UNSPLIT, Record, Splits

# Runs that differ in seed are averaged, so they must be scored on the same test images.
_TEST_SEED = 0


def hold_out(records: Sequence[Record], fraction: float, seed: int) -> tuple[list[Record], list[Record]]:
    """Draw a fraction of the rows, at least one and never all: the rows kept and those held out, both sorted by id."""
    if not 0 <= fraction < 1:
        raise DataError(f"the fraction held out must be in [0, 1), got {fraction}")
    ordered = sorted(records, key=lambda record: record.id)
    if fraction == 0 or len(ordered) < 2:
        return ordered, []
    count = min(max(1, round(fraction * len(ordered))), len(ordered) - 1)
    drawn = set(np.random.default_rng(seed).permutation(len(ordered))[:count].tolist())
    kept = [record for number, record in enumerate(ordered) if number not in drawn]
    return kept, [ordered[number] for number in sorted(drawn)]


def complete_splits(splits: Splits, *, test_fraction: float, validation_fraction: float, seed: int) -> Splits:
    """Divide what the layout leaves undivided, and cut validation from train if there is none.

    The test rows are the same for every seed. Splits without rows are left out.
    """
    splits = dict(splits)
    if UNSPLIT in splits:
        splits["train"], splits["test"] = hold_out(splits.pop(UNSPLIT), test_fraction, _TEST_SEED)
    if "train" in splits and "validation" not in splits:
        splits["train"], splits["validation"] = hold_out(splits["train"], validation_fraction, seed)
    return {name: splits[name] for name in ("train", "validation", "test") if splits.get(name)}
