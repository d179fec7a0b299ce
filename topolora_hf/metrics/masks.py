"""The one place where masks and probabilities given to a metric are checked and cut to the field of view.

Every function raises ValueError if an array is not what its name says, or the shapes differ.
"""

import numpy as np
from numpy.typing import ArrayLike


def as_mask(array: ArrayLike, name: str = "mask") -> np.ndarray:
    """Read an array, (H, W), bool or numbers that are all 0 or 1, as a bool mask.

    Anything else is refused: cast to bool, probabilities would become foreground wherever above zero, and so would the
    ones that JPEG noise leaves in a mask of 0 and 255.
    """
    array = np.asarray(array)
    if array.ndim != 2:
        raise ValueError(f"{name} must have shape (H, W), got {array.shape}")
    if array.dtype == bool:
        return array
    mask = array == 1
    if not (mask | (array == 0)).all():
        raise ValueError(
            f"{name} must be bool or hold only 0 and 1, got {array.dtype} between {array.min()} and {array.max()}; "
            f"compare it with a threshold first"
        )
    return mask


def as_probability(array: ArrayLike, name: str = "probability") -> np.ndarray:
    """Read an array, (H, W), of numbers in [0, 1] in its own floating dtype, float32 if it holds bool or integers.

    Logits, percentages and NaN are refused: they would still give plausible scores.
    """
    array = np.asarray(array)
    if array.ndim != 2:
        raise ValueError(f"{name} must have shape (H, W), got {array.shape}")
    if array.dtype.kind not in "buif":
        raise ValueError(f"{name} must hold numbers in [0, 1], got {array.dtype}")
    if not ((array >= 0) & (array <= 1)).all():  # fails for NaN, too
        raise ValueError(f"{name} must lie in [0, 1], got {array.min()} to {array.max()}")
    return array if array.dtype.kind == "f" else array.astype(np.float32)


def as_probability_and_target(probability: ArrayLike, target: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Read a probability map and its target, (H, W) floating and (H, W) bool."""
    probability, target = as_probability(probability), as_mask(target, "target")
    if probability.shape != target.shape:
        raise ValueError(f"probability has shape {probability.shape}, target has shape {target.shape}")
    return probability, target


def as_valid_mask(valid_mask: ArrayLike | None, shape: tuple[int, int]) -> np.ndarray:
    """Read a field of view of a given shape, bool or 0/1, true where the image is to be scored; `None` is all of it."""
    if valid_mask is None:
        return np.ones(shape, bool)
    valid_mask = as_mask(valid_mask, "valid_mask")
    if valid_mask.shape != shape:
        raise ValueError(f"valid_mask has shape {valid_mask.shape}, target has shape {shape}")
    return valid_mask


def masks_inside_field_of_view(
    prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Read a pair of masks, (H, W) bool, and set to background what lies outside the field of view.

    Background pixels enter none of Dice, IoU, precision, recall and clDice, so this equals leaving those pixels out.
    """
    prediction, target = as_mask(prediction, "prediction"), as_mask(target, "target")
    if prediction.shape != target.shape:
        raise ValueError(f"prediction has shape {prediction.shape}, target has shape {target.shape}")
    if valid_mask is None:
        return prediction, target
    valid_mask = as_valid_mask(valid_mask, target.shape)
    return prediction & valid_mask, target & valid_mask


def pixels_inside_field_of_view(
    probability: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Read a probability map and its target, and keep the N pixels of the field of view: (N,) floating, (N,) bool."""
    probability, target = as_probability_and_target(probability, target)
    valid_mask = as_valid_mask(valid_mask, target.shape)
    return probability[valid_mask], target[valid_mask]
