"""Why a mask may be wrong: the image or the mask is far outside what the adapter was trained on."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..adapter_format.settings import AdapterSettings
    from ..fundus.normaliser import FieldOfView

_FOREGROUND = 3.0  # times the largest share of foreground in a training image
_SCALE = 3.0  # between the diameters of the fields of view: small vessels were never seen so
_LEAST_INSIDE = 0.5  # of the image, inside the field of view, for a network of drawings: it may be any image
_COLOURS = 3.0  # times the largest or smallest mean or deviation of a colour in the training images


def doubts(settings: "AdapterSettings", fov: "FieldOfView", mask: np.ndarray) -> tuple[str, ...]:
    """Compare an image and its mask with what the adapter stored of its training images: a sentence for each doubt.

    Args:
        settings: The adapter's.
        fov: The field of view of the image.
        mask: bool (H, W), what was predicted.
    """
    colours, diameter, found = settings.fov_colours, settings.fov_diameter, []
    is_fundus = diameter is not None or colours is not None
    if settings.foreground_range is not None:
        found += doubts_of_share(settings, float((mask[fov.mask()] if is_fundus else mask).mean()))
        if is_fundus and fov.diameter is None:
            found.append(
                "no round field of view was found, as the training images have: scale and colours are left as they "
                "are, and a rim may be marked"
            )
    elif is_fundus and (share := fov.mask().mean()) < _LEAST_INSIDE:
        found.append(
            f"{1 - share:.0%} of the image is outside the round field of view that was found, and may be empty: if it "
            "is no fundus photograph, --no_within_fov and --scale 1"
        )
    if diameter is not None and fov.diameter is not None:
        ratio = fov.diameter / diameter
        if max(ratio, 1 / ratio) > _SCALE:
            found.append(
                f"the field of view is {fov.diameter:.0f} pixels wide; in the training images it is {diameter:.0f}: "
                "fine structures may be lost"
            )
    if colours is not None and fov.diameter is not None and colours.distance(fov.statistics) > _COLOURS:
        found.append("the colours of the photograph are far outside those of the training images")
    return tuple(found)


def doubts_of_share(settings: "AdapterSettings", share: float) -> tuple[str, ...]:
    """Compare the share of foreground alone."""
    if settings.foreground_range is None or share <= _FOREGROUND * settings.foreground_range[1]:
        return ()
    most = settings.foreground_range[1]
    return (f"{share:.1%} of the image is foreground; in the training images it is at most {most:.1%}",)
