"""Why a mask may be wrong: the image or the mask is far outside what the adapter was trained on."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..adapter_format.settings import AdapterSettings
    from ..fundus.normaliser import FieldOfView

_FOREGROUND = 3.0  # times the largest share of foreground in a training image
_SCALE = 3.0  # between the diameters of the fields of view: small vessels were never seen so
_COLOURS = 3.0  # times the largest or smallest mean or deviation of a colour in the training images


def doubts(settings: "AdapterSettings", fov: "FieldOfView", mask: np.ndarray) -> tuple[str, ...]:
    """Compare an image and its mask with what the adapter stored of its training images.

    Args:
        settings: The adapter's.
        fov: The field of view of the image.
        mask: bool (H, W), what was predicted.

    Returns:
        A sentence for each doubt.
    """
    return tuple(
        text for text in (_foreground(settings, fov, mask), _scale(settings, fov), _colours(settings, fov)) if text
    )


def _foreground(settings: "AdapterSettings", fov: "FieldOfView", mask: np.ndarray) -> str | None:
    if settings.foreground_range is None:
        return None
    is_fundus = settings.fov_diameter is not None or settings.fov_colours is not None
    most, share = settings.foreground_range[1], float((mask[fov.mask()] if is_fundus else mask).mean())
    if share <= _FOREGROUND * most:
        return None
    return f"{share:.1%} of the image is foreground; in the training images it is at most {most:.1%}"


def _scale(settings: "AdapterSettings", fov: "FieldOfView") -> str | None:
    if settings.fov_diameter is None or fov.diameter is None:
        return None
    ratio = fov.diameter / settings.fov_diameter
    if max(ratio, 1 / ratio) <= _SCALE:
        return None
    return (
        f"the field of view is {fov.diameter:.0f} pixels wide; in the training images it is "
        f"{settings.fov_diameter:.0f}: fine structures may be lost"
    )


def _colours(settings: "AdapterSettings", fov: "FieldOfView") -> str | None:
    if settings.fov_colours is None or fov.diameter is None:
        return None
    if settings.fov_colours.distance(fov.statistics()) <= _COLOURS:
        return None
    return "the colours of the photograph are far outside those of the training images"
