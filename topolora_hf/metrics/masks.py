"""What all metrics share: arrays are checked and cut to the field of view, and quotients are NaN where undefined.

A mask is (H, W), bool or numbers that are all 0 or 1. Every function raises ValueError if an array is not what its name
says, or the shapes differ.
"""

import numpy as np
from numpy.typing import ArrayLike


def as_mask(array: ArrayLike, name: str = "mask", shape: tuple[int, int] | None = None) -> np.ndarray:
    """Read a mask, of the target's `shape` if it is given, as bool.

    Probabilities and masks of 0 and 255 are refused: cast to bool, they would be foreground wherever above zero.
    """
    array = _as_map(array, name, shape)
    if array.dtype == bool:
        return array
    mask = array == 1
    if not (mask | (array == 0)).all():
        raise ValueError(
            f"{name} must be bool or hold only 0 and 1, got {array.dtype} between {array.min()} and {array.max()}; "
            f"compare it with a threshold first"
        )
    return mask


def as_probability(array: ArrayLike, name: str = "probability", shape: tuple[int, int] | None = None) -> np.ndarray:
    """Read numbers in [0, 1], of the target's `shape` if it is given: in their own floating dtype, else as float32.

    Logits, percentages and NaN are refused: they would still give plausible scores.
    """
    array = _as_map(array, name, shape)
    if array.dtype.kind not in "buif":
        raise ValueError(f"{name} must hold numbers in [0, 1], got {array.dtype}")
    if not ((array >= 0) & (array <= 1)).all():  # fails for NaN, too
        raise ValueError(f"{name} must lie in [0, 1], got {array.min()} to {array.max()}")
    return array if array.dtype.kind == "f" else array.astype(np.float32)


def as_valid_mask(valid_mask: ArrayLike | None, shape: tuple[int, int]) -> np.ndarray:
    """Read a field of view, true where the image is to be scored; `None` is all of it."""
    return np.ones(shape, bool) if valid_mask is None else as_mask(valid_mask, "valid_mask", shape)


def masks_inside_field_of_view(
    prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Read a pair of masks, and set to background what lies outside the field of view.

    Background pixels enter none of Dice, IoU, precision, recall and clDice, so this equals leaving those pixels out.
    """
    target = as_mask(target, "target")
    prediction = as_mask(prediction, "prediction", target.shape)
    if valid_mask is None:
        return prediction, target
    valid_mask = as_valid_mask(valid_mask, target.shape)
    return prediction & valid_mask, target & valid_mask


def pixels_inside_field_of_view(
    probability: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Read a probability map and its target, and keep the N pixels of the field of view: (N,) floating, (N,) bool."""
    target = as_mask(target, "target")
    probability = as_probability(probability, shape=target.shape)
    valid_mask = as_valid_mask(valid_mask, target.shape)
    return probability[valid_mask], target[valid_mask]


def ratio(part: float, whole: float) -> float:
    """`part / whole`, NaN when the whole is 0: a mean over images leaves it out."""
    return part / whole if whole else float("nan")


def ratios(parts: np.ndarray, wholes: np.ndarray) -> np.ndarray:
    """(N,) `ratio` of each pair; no whole may be negative."""
    return np.divide(parts, wholes, out=np.full(wholes.shape, np.nan), where=wholes > 0)


def harmonic_mean(first: float, second: float) -> float:
    """Of two shares in [0, 1]; 0 when both are 0."""
    return 2 * first * second / (first + second) if first + second else 0.0


def _as_map(array: ArrayLike, name: str, shape: tuple[int, int] | None) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim != 2:
        raise ValueError(f"{name} must have shape (H, W), got {array.shape}")
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, target has shape {shape}")
    return array
