"""Colours and figures that all pictures share.

Colours are after Okabe and Ito, which stay apart under the common colour vision deficiencies. matplotlib is imported
when a figure is made, and used through `Figure` alone: no display, backend setting or pyplot state is touched.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Colour = tuple[int, int, int]

SKY_BLUE = (86, 180, 233)
YELLOW = (240, 228, 66)
BLUE = (0, 114, 178)
VERMILION = (213, 94, 0)
GREEN = (0, 158, 115)
PURPLE = (204, 121, 167)
# Brighter than the palette's own: the one hides in a reddish retina as a grey veil, the other in a dim background.
CYAN = (0, 229, 255)
BRIGHT_VERMILION = (255, 105, 30)
HIT, MISS, FALSE = SKY_BLUE, BRIGHT_VERMILION, YELLOW


def new_figure(width: float, height: float, layout: str | None = "constrained") -> "Figure":
    """Make a white figure; sizes are in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, facecolor="white", layout=layout)


def unit_rgb(colour: Colour) -> tuple[float, ...]:
    """Scale a colour from 0 to 255 to 0 to 1, as matplotlib wants it."""
    return tuple(channel / 255 for channel in colour)


def save_figure(figure: "Figure", path: str | os.PathLike) -> None:
    """Write a figure. The path's ending says its kind; a missing folder is made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
