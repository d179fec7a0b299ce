"""Several classes at once: from K probability maps to K masks, to one map of them all, and to one of labels."""

from collections.abc import Sequence
from itertools import chain, combinations

import numpy as np

MOST_VALUES = 254  # of a label map, beside 0, the background, and 255, which means "ignore" in a mask


def class_masks(probabilities: np.ndarray, thresholds: Sequence[float], exclusive: bool) -> np.ndarray:
    """Decide which pixels belong to each class.

    Overlapping classes: a class is where its probability is at least its threshold. Exclusive classes: the class k with
    the largest probability is where the probability of any class, the sum, is at least its threshold. With one class
    both are the same.

    Args:
        probabilities: (K, H, W), numbers in [0, 1].
        thresholds: One a class.
        exclusive: No pixel belongs to two classes.

    Returns:
        bool (K, H, W).

    >>> probabilities = np.array([[[0.6, 0.3, 0.1]], [[0.5, 0.4, 0.2]]])
    >>> class_masks(probabilities, (0.5, 0.5), exclusive=False)[:, 0].tolist()
    [[True, False, False], [True, False, False]]
    >>> class_masks(probabilities, (0.5, 0.5), exclusive=True)[:, 0].tolist()
    [[True, False, False], [False, True, False]]
    """
    limits = np.array(thresholds, probabilities.dtype)  # as `probability >= 0.42` compares them
    if len(limits) != len(probabilities):
        raise ValueError(f"{len(limits)} thresholds do not fit {len(probabilities)} classes")
    if not exclusive:
        return probabilities >= limits[:, None, None]
    largest = probabilities.argmax(0)
    is_any = probabilities.sum(0) >= limits[largest]
    return is_any & (largest == np.arange(len(limits))[:, None, None])


def any_class(probabilities: np.ndarray, exclusive: bool) -> np.ndarray:
    """(K, H, W) -> (H, W), the probability of any class: of exclusive ones the sum, of others the largest."""
    return np.minimum(probabilities.sum(0), 1) if exclusive else probabilities.max(0)


def label_values(labels: Sequence[str], exclusive: bool) -> dict[tuple[int, ...], int]:
    """The value of each class in a label map: k for class k, counted from 1.

    Of overlapping classes every set of two or more at a pixel has a value too: first the pairs, in order. So of two
    classes 3 is both, as in files of arteries and veins.

    Returns:
        Positions of the classes, from 0, and their value.

    Raises:
        ValueError: There are more than 254 values: of 255 exclusive classes, or of 8 overlapping ones.

    >>> label_values(("artery", "vein"), exclusive=False)
    {(0,): 1, (1,): 2, (0, 1): 3}
    """
    count = len(labels)
    if (count if exclusive else 2**count - 1) > MOST_VALUES:
        raise ValueError(
            f"{count} {'exclusive' if exclusive else 'overlapping'} classes do not fit into one label map of 8 bits: "
            "at most 254 exclusive or 7 overlapping ones do (--classes exclusive=true says that no pixel has two)"
        )
    sizes = range(1, 2 if exclusive else count + 1)
    sets = chain.from_iterable(combinations(range(count), size) for size in sizes)
    return {classes: value for value, classes in enumerate(sets, start=1)}


def label_map(masks: np.ndarray, values: dict[tuple[int, ...], int]) -> np.ndarray:
    """bool (K, H, W) -> uint8 (H, W), 0 where there is no class, else the value of those that are there.

    >>> masks = np.array([[[True, True, False]], [[False, True, False]]])
    >>> label_map(masks, label_values(("artery", "vein"), exclusive=False)).tolist()
    [[1, 3, 0]]
    """
    if len(values) == len(masks):  # exclusive, or one class; where lines of two meet, the first
        return np.where(masks.any(0), masks.argmax(0) + 1, 0).astype(np.uint8)
    table = np.zeros(2 ** len(masks), np.uint8)
    for classes, value in values.items():
        table[sum(2**place for place in classes)] = value
    bits = 2 ** np.arange(len(masks), dtype=np.uint8)
    return table[(masks * bits[:, None, None]).sum(0, dtype=np.uint8)]
