"""The one place where masks given to a metric are checked and cut to the field of view."""

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
    valid_mask = as_mask(valid_mask, "valid_mask")
    if valid_mask.shape != target.shape:
        raise ValueError(f"valid_mask has shape {valid_mask.shape}, target has shape {target.shape}")
    return prediction & valid_mask, target & valid_mask
