"""Image files to binary masks."""

import numpy as np

from ..errors import DataError
from .containers import Contents, Source, guarded, read_contents

# A lossless mask with three or more levels, none above this, holds numbers of classes or objects and not grey levels.
_HIGHEST_CLASS_INDEX = 127


def decode_mask(source: Source, name: str | None = None) -> np.ndarray:
    """Read a binary mask, cut at half of its range.

    Both {0, 1} and {0, 255} files are right, in 1-bit, palette, grey, colour or 16-bit form, and so are JPEG files,
    whose values lie near 0 and 255. A colour counts as bright as its brightest channel.

    Args:
        source: A path, the encoded file itself as bytes, or an opened PIL image.
        name: What to call the mask in errors; the path by default.

    Returns:
        uint8 array (H, W) of 0 (background) and 1 (foreground).

    Raises:
        DataError: The file cannot be read, or holds class indices of more than two classes.
    """
    return guarded(lambda source: binarise(*_levels(read_contents(source))), source, name)


def read_mask_levels(source: Source, name: str | None = None) -> tuple[np.ndarray, bool]:
    """Read a mask before it is cut: its (H, W) values, and whether its format is a lossy one.

    Raises:
        DataError: The file cannot be read.
    """
    return guarded(lambda source: _levels(read_contents(source)), source, name)


def binarise(levels: np.ndarray, is_lossy: bool) -> np.ndarray:
    """Cut (H, W) values at half of their range: 1, 255, or their own maximum if that is higher.

    Raises:
        DataError: The values are class indices of more than two classes, or infinite; NaN is background.
    """
    if is_lossy:
        return (levels >= 127.5).astype(np.uint8)
    if np.issubdtype(levels.dtype, np.floating):
        if np.isinf(levels).any():
            raise DataError("holds infinite values; a mask of two classes is needed (0 and 1, or 0 and 255)")
        levels = np.nan_to_num(levels)
    peak = float(levels.max())
    if peak <= 1:
        return (levels >= 0.5).astype(np.uint8)
    is_positive = levels > 0
    if (levels[is_positive] == peak).all():  # {0, v}: v is foreground, whatever it is
        return is_positive.astype(np.uint8)
    if peak <= _HIGHEST_CLASS_INDEX:
        raise DataError(
            f"holds class indices up to {peak:.0f}; a mask of two classes is needed (0 and 1, or 0 and 255)"
        )
    return (levels >= max(255.0, peak) / 2).astype(np.uint8)


def _levels(contents: Contents) -> tuple[np.ndarray, bool]:
    values = contents.values
    if contents.palette is not None:
        values = _palette_levels(values, contents.palette)
    elif values.ndim == 3:
        values = values.max(axis=2)
        if contents.alpha is not None:  # it dims what it hides, so that white on transparent reads as white on black
            values = values.astype(np.uint16) * contents.alpha // 255
    return values, contents.is_lossy


def _palette_levels(indices: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Grey levels of a mask whose palette is grey; else the palette's indices, which then name classes."""
    colours = palette[np.unique(indices)]
    if (colours == colours[:, :1]).all():
        return palette[indices, 0]
    if len(colours) > 2:
        raise DataError(f"has a coloured palette with {len(colours)} classes; a mask of two classes is needed")
    return indices > 0
