"""Masks drawn over their images, without matplotlib."""

import numpy as np
from PIL import Image

from ..metrics.masks import as_mask
from .figures import CYAN, FALSE, HIT, MISS

_OUTSIDE = 0.4  # brightness of what lies outside the field of view


def overlay(
    image: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int] = CYAN, opacity: float = 0.4
) -> Image.Image:
    """Lay a mask over its image: a translucent fill inside a crisp, opaque outline.

    The outline runs inside the mask and grows with the image, so a structure a pixel or two wide is drawn whole and
    opaque, while a polyp can still be seen through its fill.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W), bool or 0/1.
        colour: RGB, 0 to 255.
        opacity: Of the fill, in [0, 1]; 0 leaves the outline only.

    Returns:
        PIL.Image.Image: RGB, of the image's size.

    Raises:
        ValueError: If an array has another shape or dtype, or opacity leaves [0, 1].

    Example:
        >>> image = np.full((64, 64, 3), 200, np.uint8)
        >>> mask = np.zeros((64, 64), bool)
        >>> mask[16:48, 16:48] = True
        >>> picture = overlay(image, mask, colour=(0, 0, 0), opacity=0.5)
        >>> [picture.getpixel(place)[0] for place in ((8, 8), (16, 16), (32, 32))]
        [200, 0, 100]
    """
    from scipy.ndimage import binary_erosion

    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must lie in [0, 1], got {opacity}")
    mask = _mask_of(image, mask, "mask")
    thickness = max(1, round(max(mask.shape) / 500))
    # A structure cut by the image's edge gets no outline along the cut.
    inside = binary_erosion(mask, np.ones((3, 3)), iterations=thickness, border_value=1)
    picture = image.astype(np.float32)
    picture[inside] = (1 - opacity) * picture[inside] + opacity * np.array(colour, np.float32)
    picture[mask & ~inside] = colour
    return Image.fromarray(np.round(picture).astype(np.uint8))


def error_overlay(
    image: np.ndarray, prediction: np.ndarray, target: np.ndarray, valid_mask: np.ndarray | None = None
) -> Image.Image:
    """Mark what a prediction hit (sky blue), missed (vermilion) and made up (yellow) on a dim grey image.

    Args:
        image: (H, W, 3) uint8 RGB.
        prediction: (H, W), bool or 0/1.
        target: (H, W), bool or 0/1.
        valid_mask: (H, W), bool or 0/1; what lies outside is not scored: dimmer still, and unmarked.

    Returns:
        PIL.Image.Image: RGB, of the image's size.

    Raises:
        ValueError: If an array has another shape or dtype.
    """
    prediction, target = _mask_of(image, prediction, "prediction"), _mask_of(image, target, "target")
    grey = np.asarray(Image.fromarray(image).convert("L"), np.float32)
    # Half as bright at most: every colour stands out from its surroundings by lightness as well.
    picture = np.repeat(grey[..., None] * 0.5, 3, axis=2)
    picture[prediction & target] = HIT
    picture[~prediction & target] = MISS
    picture[prediction & ~target] = FALSE
    if valid_mask is not None:
        outside = ~_mask_of(image, valid_mask, "valid_mask")
        picture[outside] = grey[outside, None] * 0.5 * _OUTSIDE
    return Image.fromarray(np.round(picture).astype(np.uint8))


def _mask_of(image: np.ndarray, mask: np.ndarray, name: str) -> np.ndarray:
    """Check an image and a mask that goes with it."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image must be uint8 of shape (H, W, 3), got {image.dtype} of shape {image.shape}")
    mask = as_mask(mask, name)
    if mask.shape != image.shape[:2]:
        raise ValueError(f"{name} has shape {mask.shape}, image has shape {image.shape}")
    return mask
