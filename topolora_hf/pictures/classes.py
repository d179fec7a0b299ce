"""Several classes in one picture: a colour each, and a legend that can be read at any size."""

import colorsys
import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .figures import BRIGHT_VERMILION, CYAN, FALSE, HIT, MISS, SKY_BLUE, YELLOW, Colour

SEVERAL = (255, 255, 255)  # where classes overlap
# The first six stay apart under the common colour vision deficiencies, and before a retina. The first two are red and
# blue, as arteries and veins are drawn.
_COLOURS = (BRIGHT_VERMILION, SKY_BLUE, YELLOW, (0, 190, 130), (235, 130, 205), (70, 70, 255))
_ERRORS = {"hit": HIT, "missed": MISS, "false": FALSE}
# Other colours than those of the first classes.
_ERRORS_OF_CLASSES = {"hit": (0, 190, 130), "missed": (235, 130, 205), "false": YELLOW, "other class": (255, 255, 255)}
_MOST_NAMED = 12
_TURN = 0.618034  # of hues that follow each other: the golden ratio keeps them apart


def class_colours(count: int) -> list[Colour]:
    """A colour a class, RGB from 0 to 255; with one class that of all masks."""
    if count == 1:
        return [CYAN]
    more = (colorsys.hsv_to_rgb(k * _TURN % 1, 0.5 + k % 2 / 2, 1 - k % 3 / 4) for k in range(count - len(_COLOURS)))
    return [*_COLOURS[:count], *(tuple(round(255 * channel) for channel in rgb) for rgb in more)]


def error_colours(classes: int) -> dict[str, Colour]:
    """The colours of right and wrong pixels: hit, missed, false, and of several classes `other class`."""
    return _ERRORS if classes == 1 else _ERRORS_OF_CLASSES


def legend_of(labels: Sequence[str], overlap: bool = False) -> dict[str, Colour]:
    """Names and colours for a legend, at most twelve; nothing with one class.

    >>> list(legend_of(("artery", "vein"), overlap=True))
    ['artery', 'vein', 'artery + vein']
    """
    if len(labels) == 1:
        return {}
    named = dict(zip(labels[:_MOST_NAMED], class_colours(len(labels)), strict=False))
    if more := len(labels) - len(named):
        named[f"and {more} more"] = (160, 160, 160)
    if overlap:
        named[" + ".join(labels) if len(labels) == 2 else "several classes"] = SEVERAL
    return named


def mix_colours(maps: np.ndarray, colours: Sequence[Colour]) -> np.ndarray:
    """Numbers in [0, 1], (K, H, W) -> float32 (H, W, 3) in [0, 1]: colours by the numbers, black where all are 0."""
    mixed = np.tensordot(maps.astype(np.float32), np.array(colours, np.float32) / 255, axes=(0, 0))
    return mixed / np.maximum(maps.sum(0, dtype=np.float32), 1)[..., None]


def probability_picture(probabilities: np.ndarray, labels: Sequence[str]) -> Image.Image:
    """Draw maps (K, H, W): one in grey, several in the colours of their classes with a legend below."""
    if len(labels) == 1:
        return Image.fromarray((probabilities[0] * 255).round().astype(np.uint8))
    mixed = mix_colours(probabilities, class_colours(len(labels)))
    return with_legend(Image.fromarray((mixed * 255).round().astype(np.uint8)), legend_of(labels))


def with_legend(picture: Image.Image, names: Mapping[str, Colour]) -> Image.Image:
    """Add a white strip under a picture that names its colours. Its letters grow with the picture; no name is cut."""
    if not names:
        return picture
    size = max(14, round(math.sqrt(picture.width * picture.height) / 40))
    font = ImageFont.load_default(size)
    widths = [round(font.getlength(name)) + 3 * size for name in names]  # a square and the gaps
    width = max(picture.width, *(item + size for item in widths))
    places, x, y = [], size // 2, size // 2
    for item in widths:
        if x + item > width and x > size // 2:
            x, y = size // 2, y + round(1.6 * size)
        places.append((x, y))
        x += item
    canvas = Image.new("RGB", (width, picture.height + y + round(1.6 * size)), "white")
    canvas.paste(picture, (0, 0))
    draw = ImageDraw.Draw(canvas)
    for (name, colour), (x, y) in zip(names.items(), places, strict=True):
        y += picture.height
        draw.rectangle((x, y, x + size, y + size), fill=colour, outline=(60, 60, 60), width=max(1, size // 14))
        draw.text((x + 1.5 * size, y + size / 2), name, fill=(20, 20, 20), font=font, anchor="lm")
    return canvas
