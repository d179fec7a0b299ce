"""Masks drawn over their images, one by one and as a contact sheet of a data set, without matplotlib."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from ..metrics.masks import as_mask
from .classes import SEVERAL, class_colours, error_colours, legend_of, with_legend
from .figures import CYAN, Colour

_OUTSIDE = 0.4  # brightness of what lies outside the field of view, and on a contact sheet:
_OUTSIDE_ON_SHEET = 0.35
_OF_SEVERAL = 0.8  # opacity where classes overlap: more than theirs, to be seen on them
# Of a contact sheet, in pixels
_THUMBNAIL, _CAPTION, _GAP = 256, 16, 6


def overlay(image: np.ndarray, mask: np.ndarray, colour: Colour = CYAN, opacity: float = 0.4) -> Image.Image:
    """Lay a mask over its image: a translucent fill inside a crisp, opaque outline.

    The outline runs inside the mask and grows with the image, so a structure a pixel or two wide is drawn whole and
    opaque, while a polyp can still be seen through its fill.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W), bool or 0/1.
        colour: RGB, 0 to 255.
        opacity: Of the fill, in [0, 1]; 0 leaves the outline only.

    Returns:
        An RGB picture of the image's size.

    Raises:
        ValueError: An array has another shape or dtype, or opacity leaves [0, 1].

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
    return _to_image(picture)


def class_overlay(
    image: np.ndarray, masks: np.ndarray, labels: Sequence[str] = ("foreground",), opacity: float = 0.4
) -> Image.Image:
    """Lay the masks of K classes over their image, each as `overlay` does.

    Where K is above 1 the image is grey, so that each colour stands out (an artery's from a retina), and a legend is
    added below.

    Args:
        image: (H, W, 3) uint8 RGB.
        masks: (K, H, W), bool or 0/1. Where they overlap, the picture is white.
        labels: The K names.
        opacity: As for `overlay`.
    """
    masks = np.stack([_mask_of(image, mask, "mask") for mask in masks])
    several = masks.sum(0) > 1
    image = _grey_if_several(image, len(masks))
    layers = [(mask, colour, opacity) for mask, colour in zip(masks, class_colours(len(masks)), strict=True)]
    if several.any():
        layers.append((several, SEVERAL, max(opacity, _OF_SEVERAL)))
    for layer in layers:
        picture = overlay(image, *layer)
        image = np.asarray(picture)
    return with_legend(picture, legend_of(labels, bool(several.any())))


def error_overlay(
    image: np.ndarray, prediction: np.ndarray, target: np.ndarray, valid_mask: np.ndarray | None = None
) -> Image.Image:
    """Mark what a prediction hit (sky blue), missed (vermilion) and made up (yellow) on a dim grey image.

    Prediction and target are (K, H, W). Of several classes the colours are green, pink and yellow, and white is
    structure of other classes than the predicted ones.
    What lies outside `valid_mask` is not scored: dimmer still, and unmarked. Errors are `overlay`'s.
    """
    masks = [[_mask_of(image, mask, name) for mask in maps]
             for maps, name in ((prediction, "prediction"), (target, "target"))]  # fmt: skip
    differs = np.logical_or.reduce([found != true for found, true in zip(*masks, strict=True)])
    prediction, target = (np.logical_or.reduce(maps) for maps in masks)
    grey = np.asarray(Image.fromarray(image).convert("L"), np.float32)
    # Half as bright at most: every colour stands out from its surroundings by lightness as well.
    picture = np.repeat(grey[..., None] * 0.5, 3, axis=2)
    marks = [prediction & target, ~prediction & target, prediction & ~target, prediction & target & differs]
    for mark, colour in zip(marks, error_colours(len(masks[0])).values(), strict=False):
        picture[mark] = colour
    if valid_mask is not None:
        outside = ~_mask_of(image, valid_mask, "valid_mask")
        picture[outside] = grey[outside, None] * 0.5 * _OUTSIDE
    return _to_image(picture)


def contact_sheet(
    rows: Sequence[tuple[str, Mapping]], columns: int = 6, labels: Sequence[str] = ("foreground",)
) -> Image.Image:
    """Draw rows as pairs of the image and the image with its mask, dimmed outside the field of view.

    Args:
        rows: Captions, and decoded rows with `image` uint8 (H, W, 3), `mask` (K, H, W) of 0 and 1, and `valid_mask`
            bool (H, W).
        columns: Thumbnails side by side, two a row of the data set.
        labels: Names of the K classes.

    Raises:
        ValueError: There are no rows, or fewer than two columns.
    """
    if not rows or columns < 2:
        raise ValueError(f"a contact sheet needs rows and at least 2 columns, got {len(rows)} and {columns}")
    pairs_across = min(columns // 2, len(rows))
    thumbnails = [[_thumbnail(picture) for picture in (Image.fromarray(row["image"]), marked(row))] for _, row in rows]
    width, height = 2 * _THUMBNAIL + _GAP, max(pair[0].height for pair in thumbnails) + _CAPTION
    sheet_height = math.ceil(len(rows) / pairs_across) * (height + _GAP) + _GAP
    sheet = Image.new("RGB", (pairs_across * (width + _GAP) + _GAP, sheet_height), "white")
    draw = ImageDraw.Draw(sheet)
    for number, ((caption, _), (image, with_mask)) in enumerate(zip(rows, thumbnails, strict=True)):
        down, across = divmod(number, pairs_across)
        left, top = _GAP + across * (width + _GAP), _GAP + down * (height + _GAP)
        draw.text((left, top), _fitting(draw, caption, width), fill=(30, 30, 30))
        sheet.paste(image, (left, top + _CAPTION))
        sheet.paste(with_mask, (left + _THUMBNAIL + _GAP, top + _CAPTION))
    overlap = any((row["mask"].sum(axis=0) > 1).any() for _, row in rows)
    return with_legend(sheet, legend_of(labels, overlap))


def marked(row: Mapping) -> Image.Image:
    """The image under its mask, thickened so that a line of one pixel survives shrinking, and dimmed outside."""
    from scipy.ndimage import maximum_filter

    image = _grey_if_several(row["image"], len(row["mask"])).astype(np.float32)
    thickness = max(1, round(max(image.shape[:2]) / _THUMBNAIL / 2))
    masks = [maximum_filter(mask > 0, size=thickness) for mask in row["mask"]]
    image[~row["valid_mask"]] *= _OUTSIDE_ON_SHEET
    several = maximum_filter(row["mask"].sum(axis=0) > 1, size=thickness)
    seen = image.copy()
    for mask, colour in [*zip(masks, class_colours(len(masks)), strict=True), (several, SEVERAL)]:
        image[mask] = 0.55 * seen[mask] + 0.45 * np.array(colour, np.float32)
    return _to_image(image)


def _thumbnail(image: Image.Image) -> Image.Image:
    scale = _THUMBNAIL / max(image.size)
    return image.resize([max(1, round(scale * length)) for length in image.size], Image.Resampling.LANCZOS)


def _fitting(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """The text on one line, its end cut off where it is wider than `width`."""
    text = " ".join(text.split())
    if draw.textlength(text) <= width:
        return text
    while draw.textlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _grey_if_several(image: np.ndarray, classes: int) -> np.ndarray:
    """The image, in grey where masks of several classes are laid over it."""
    return image if classes == 1 else np.asarray(Image.fromarray(image).convert("L").convert("RGB"))


def _to_image(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(picture.round().astype(np.uint8))


def _mask_of(image: np.ndarray, mask: np.ndarray, name: str) -> np.ndarray:
    """Check an image and a mask that goes with it."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image must be uint8 of shape (H, W, 3), got {image.dtype} of shape {image.shape}")
    mask = as_mask(mask, name)
    if mask.shape != image.shape[:2]:
        raise ValueError(f"{name} has shape {mask.shape}, image has shape {image.shape}")
    return mask
