"""The one place where masks and probabilities given to a metric are checked and cut to the field of view."""

import numpy as np
from numpy.typing import ArrayLike


def as_mask(array: ArrayLike, name: str = "mask") -> np.ndarray:
    """Read an array as a binary mask, refusing anything that would have to be guessed at.

    Probabilities cast to bool would turn every pixel above zero into foreground without a word, and so would a mask
    of 0 and 255 in which JPEG noise left a few ones.

    Args:
        array: (H, W), bool, or numbers that are all 0 or 1.
        name: What to call the array in an error.

    Returns:
        np.ndarray: (H, W) bool.

    Raises:
        ValueError: If the array is not two-dimensional, or holds anything besides 0 and 1.
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
    """Read an array as a map of foreground probabilities; logits, percentages and NaN are refused.

    Args:
        array: (H, W), numbers in [0, 1].
        name: What to call the array in an error.

    Returns:
        np.ndarray: (H, W), of the array's own floating dtype; float32 where it held bool or integers.

    Raises:
        ValueError: If the array is not two-dimensional, holds no numbers, or leaves [0, 1] (NaN included).
    """
    array = np.asarray(array)
    if array.ndim != 2:
        raise ValueError(f"{name} must have shape (H, W), got {array.shape}")
    if array.dtype.kind not in "buif":
        raise ValueError(f"{name} must hold numbers in [0, 1], got {array.dtype}")
    # Logits handed over by mistake would still give plausible scores; NaN fails the comparison too.
    if not ((array >= 0) & (array <= 1)).all():
        raise ValueError(f"{name} must lie in [0, 1], got {array.min()} to {array.max()}")
    return array if array.dtype.kind == "f" else array.astype(np.float32)


def as_probability_and_target(probability: ArrayLike, target: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Read a probability map and its target, (H, W) floating and (H, W) bool.

    Raises:
        ValueError: If the probabilities leave [0, 1], the target is no mask, or the shapes differ.
    """
    probability, target = as_probability(probability), as_mask(target, "target")
    if probability.shape != target.shape:
        raise ValueError(f"probability has shape {probability.shape}, target has shape {target.shape}")
    return probability, target


def as_valid_mask(valid_mask: ArrayLike | None, shape: tuple[int, int]) -> np.ndarray:
    """Read a field of view.

    Args:
        valid_mask: (H, W), bool or 0/1, true where the image is to be scored; `None` scores all of it.
        shape: (H, W) that it must have.

    Returns:
        np.ndarray: (H, W) bool.

    Raises:
        ValueError: If it is no mask or has another shape.
    """
    if valid_mask is None:
        return np.ones(shape, bool)
    valid_mask = as_mask(valid_mask, "valid_mask")
    if valid_mask.shape != shape:
        raise ValueError(f"valid_mask has shape {valid_mask.shape}, target has shape {shape}")
    return valid_mask


def masks_inside_field_of_view(
    prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Check a pair of masks and set to background what lies outside the field of view.

    Background pixels enter none of Dice, IoU, precision, recall and clDice, so this equals leaving those pixels out.

    Args:
        prediction: (H, W), bool or 0/1.
        target: (H, W), bool or 0/1.
        valid_mask: (H, W), bool or 0/1, true where the image is to be scored; `None` scores all of it.

    Returns:
        tuple[np.ndarray, np.ndarray]: Prediction and target, (H, W) bool.

    Raises:
        ValueError: If an array is no mask or the shapes differ.
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
    """Check a probability map and its target and keep the N pixels of the field of view.

    Args:
        probability: (H, W), numbers in [0, 1].
        target: (H, W), bool or 0/1.
        valid_mask: (H, W), bool or 0/1, true where the image is to be scored; `None` scores all of it.

    Returns:
        tuple[np.ndarray, np.ndarray]: Probabilities (N,), floating, and whether each pixel is foreground (N,), bool.

    Raises:
        ValueError: If the probabilities leave [0, 1], an array is no mask, or the shapes differ.
    """
    probability, target = as_probability_and_target(probability, target)
    valid_mask = as_valid_mask(valid_mask, target.shape)
    return probability[valid_mask], target[valid_mask]
