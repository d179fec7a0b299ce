"""Which class was taken for which: counts of pixels by what they are and by what they were predicted to be."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from .masks import as_mask, as_valid_mask, ratio

Classes = tuple[int, ...]
"""The classes at a pixel, by their place, from 0; none is background."""


def confusion(
    prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None
) -> Counter[tuple[Classes, Classes]]:
    """Count the pixels of the field of view by their true and their predicted classes.

    Args:
        prediction, target: (K, H, W), bool or 0/1, a mask a class.
        valid_mask: (H, W), bool or 0/1, true where the image is to be scored; `None` scores all of it.

    Returns:
        Numbers of pixels; those of images are added up with `+`.

    Raises:
        ValueError: An array is no mask, or the shapes differ.

    >>> truth, found = [[[1, 1, 0, 0]], [[0, 1, 1, 0]]], [[[1, 1, 1, 0]], [[0, 0, 0, 0]]]
    >>> dict(sorted(confusion(found, truth).items()))
    {((), ()): 1, ((0,), (0,)): 1, ((0, 1), (0,)): 1, ((1,), (0,)): 1}
    """
    prediction, target = (
        np.stack([as_mask(mask, name) for mask in masks])
        for masks, name in ((prediction, "prediction"), (target, "target"))
    )
    if prediction.shape != target.shape:
        raise ValueError(f"prediction has shape {prediction.shape}, target has shape {target.shape}")
    valid_mask = as_valid_mask(valid_mask, target.shape[1:])
    both = np.concatenate([target, prediction])
    something = both.any(0) & valid_mask  # few pixels of an image, where structures are thin
    found = Counter({((), ()): int(valid_mask.sum() - something.sum())})
    pixels = both[:, something]
    packed = np.packbits(pixels, axis=0).T
    if packed.shape[1] <= 8:  # one number a pixel sorts ten times faster
        packed = np.pad(packed, ((0, 0), (0, 8 - packed.shape[1]))).view(np.uint64)
    _, places, numbers = np.unique(
        packed, axis=0 if packed.shape[1] > 1 else None, return_index=True, return_counts=True
    )
    for place, number in zip(places, numbers, strict=True):
        true, predicted = (tuple(np.flatnonzero(part).tolist()) for part in np.split(pixels[:, place], 2))
        found[true, predicted] = int(number)
    return found


def accuracy_on_structure(counts: Counter[tuple[Classes, Classes]]) -> tuple[float, float]:
    """The share of the pixels that truly belong to exactly one class that were given that class and no other.

    So arteries and veins are scored on the true vessels' pixels. Two shares, as papers report either: of all these
    pixels, where one that was predicted to be background is wrong; and of those that were found, predicted to be of
    any class. NaN where there are none.

    >>> accuracy_on_structure(Counter({((0,), (0,)): 6, ((0,), (1,)): 2, ((0,), ()): 2, ((0, 1), (0,)): 5}))
    (0.6, 0.75)
    """
    single = {pair: number for pair, number in counts.items() if len(pair[0]) == 1}
    right = sum(number for (true, predicted), number in single.items() if true == predicted)
    found = sum(number for (_, predicted), number in single.items() if predicted)
    return ratio(right, sum(single.values())), ratio(right, found)


def accuracy_by_probability(probabilities: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None) -> float:
    """The share of the pixels that truly belong to exactly one class whose class is the most probable one.

    No threshold takes part: papers on arteries and veins report it on the true vessels' pixels, found or not. NaN
    where there are none. Arguments are those of `confusion`, with probabilities (K, H, W) in [0, 1].

    >>> accuracy_by_probability([[[0.3, 0.2, 0.1]], [[0.1, 0.4, 0.0]]], [[[1, 1, 0]], [[0, 0, 0]]])
    0.5
    """
    target = np.stack([as_mask(mask, "target") for mask in target])
    single = (target.sum(0) == 1) & as_valid_mask(valid_mask, target.shape[1:])
    right = np.asarray(probabilities)[:, single].argmax(0) == target[:, single].argmax(0)
    return ratio(float(right.sum()), right.size)


def confusion_table(counts: Counter[tuple[Classes, Classes]], labels: Sequence[str]) -> dict[str, list]:
    """The counts as a matrix: `labels` names its rows (true) and columns (predicted), `pixels` are its numbers.

    Background comes first, then each class, then those sets of classes that share pixels, as `artery+vein`.

    >>> confusion_table(Counter({((0,), (0,)): 6, ((0, 1), ()): 2}), ("artery", "vein"))["labels"]
    ['background', 'artery', 'vein', 'artery+vein']
    """
    shared = {classes for pair in counts for classes in pair if len(classes) > 1}
    sets = [(), *((place,) for place in range(len(labels))), *sorted(shared, key=lambda item: (len(item), item))]
    names = ["+".join(labels[place] for place in classes) or "background" for classes in sets]
    return {"labels": names, "pixels": [[counts[true, predicted] for predicted in sets] for true in sets]}
