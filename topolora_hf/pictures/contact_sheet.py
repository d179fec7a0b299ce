"""One picture that shows what was understood of a data set: its images, their masks and their fields of view."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

_THUMBNAIL = 256
_CAPTION = 16
_GAP = 6
_INK, _PAPER = (30, 30, 30), (255, 255, 255)
_FOREGROUND = np.array([0, 229, 255], dtype=np.float32)
_OPACITY = 0.45
_OUTSIDE = 0.35  # brightness of what lies outside the field of view


def contact_sheet(rows: Sequence[tuple[str, Mapping]], columns: int = 6) -> Image.Image:
    """Draw rows as pairs of the image and the image with its mask, dimmed outside the field of view.

    Args:
        rows: Captions, and decoded rows with `image` uint8 (H, W, 3), `mask` (H, W) of 0 and 1, and `valid_mask` bool
            (H, W).
        columns: Thumbnails side by side, two a row of the data set.

    Returns:
        An RGB picture.

    Raises:
        ValueError: There are no rows, or fewer than two columns.
    """
    if not rows or columns < 2:
        raise ValueError(f"a contact sheet needs rows and at least 2 columns, got {len(rows)} and {columns}")
    pairs_across = min(columns // 2, len(rows))
    thumbnails = [[_thumbnail(picture) for picture in (Image.fromarray(row["image"]), marked(row))] for _, row in rows]
    width, height = 2 * _THUMBNAIL + _GAP, max(pair[0].height for pair in thumbnails) + _CAPTION
    sheet_height = math.ceil(len(rows) / pairs_across) * (height + _GAP) + _GAP
    sheet = Image.new("RGB", (pairs_across * (width + _GAP) + _GAP, sheet_height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, ((caption, _), (image, with_mask)) in enumerate(zip(rows, thumbnails, strict=True)):
        down, across = divmod(number, pairs_across)
        left, top = _GAP + across * (width + _GAP), _GAP + down * (height + _GAP)
        draw.text((left, top), _fitting(draw, caption, width), fill=_INK)
        sheet.paste(image, (left, top + _CAPTION))
        sheet.paste(with_mask, (left + _THUMBNAIL + _GAP, top + _CAPTION))
    return sheet


def marked(row: Mapping) -> Image.Image:
    """The image under its mask, thickened so that a line of one pixel survives shrinking, and dimmed outside."""
    image = row["image"].astype(np.float32)
    thickness = max(1, round(max(image.shape[:2]) / _THUMBNAIL / 2))
    mask = ndimage.maximum_filter(row["mask"] > 0, size=thickness)
    image[~row["valid_mask"]] *= _OUTSIDE
    image[mask] = (1 - _OPACITY) * image[mask] + _OPACITY * _FOREGROUND
    return Image.fromarray(image.round().astype(np.uint8))


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
