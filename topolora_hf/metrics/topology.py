"""Scores of how well the course of thin structures is recovered, whatever their width."""

from numpy.typing import ArrayLike
from skimage.morphology import skeletonize

from .masks import masks_inside_field_of_view


def cldice(prediction: ArrayLike, target: ArrayLike, valid_mask: ArrayLike | None = None) -> float:
    """Centreline Dice with hard skeletons (clDice, Shit et al. 2021, arXiv 2003.07311, equations 1 and 2).

    The harmonic mean of topology precision, the share of the prediction's skeleton that lies inside the target, and
    topology sensitivity, the share of the target's skeleton that lies inside the prediction. Skeletons are
    scikit-image's (Zhang and Suen), one pixel wide and never empty for a mask that is not.

    Both masks are cut to `valid_mask` first and skeletonised then. A vessel that the edge of the field of view cuts
    lengthwise is thus seen as the part that is left of it, in prediction and target alike, and nothing outside bends
    a skeleton inside.

    Args:
        prediction: (H, W), bool or 0/1.
        target: (H, W), bool or 0/1.
        valid_mask: (H, W), bool or 0/1, true where the image is to be scored; `None` scores all of it.

    Returns:
        float: In [0, 1]; 0 when exactly one of prediction and target is empty, NaN when both are.

    Raises:
        ValueError: If an array is no mask or the shapes differ.

    Example:
        Half of a line was found, all of what was found is true:

        >>> cldice([[0, 0, 0, 0], [1, 1, 0, 0]], [[0, 0, 0, 0], [1, 1, 1, 1]])
        0.6666666666666666
    """
    prediction, target = masks_inside_field_of_view(prediction, target, valid_mask)
    if not prediction.any() or not target.any():
        return 0.0 if prediction.any() or target.any() else float("nan")
    topology_precision = float(target[skeletonize(prediction)].mean())
    topology_sensitivity = float(prediction[skeletonize(target)].mean())
    if topology_precision + topology_sensitivity == 0:
        return 0.0
    return 2 * topology_precision * topology_sensitivity / (topology_precision + topology_sensitivity)
