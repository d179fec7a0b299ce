"""Image files to 8-bit RGB."""

import numpy as np
from PIL import Image

from ..intensity import IntensityScaling, fit_intensity_scaling
from .containers import Contents, Source, guarded, read_contents


def decode_image(source: Source, name: str | None = None, scaling: IntensityScaling | None = None) -> np.ndarray:
    """Read an image as 8-bit RGB, turned as its EXIF orientation says.

    Transparent pixels become black. Images of more than 8 bits a pixel go through `scaling`; without one they are
    stretched by their own percentiles (`fit_intensity_scaling`), which suits a single picture but not a data set.

    Args:
        source: A path, the encoded file itself as bytes, or an opened PIL image.
        name: What to call the image in errors; the path by default.
        scaling: How more than 8 bits become 8. Images of 8 bits stay as they are.

    Returns:
        uint8 array (H, W, 3) in RGB.

    Raises:
        DataError: The file does not exist, is not an image, holds several, is broken or truncated, or has more pixels
            than `$TOPOLORA_MAX_IMAGE_PIXELS` allows.
    """

    def read(source: Source) -> np.ndarray:
        pixels = _own_values(read_contents(source))
        if pixels.dtype != np.uint8:
            pixels = (scaling or fit_intensity_scaling([pixels]))(pixels)
        return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels

    return guarded(read, source, name)


def read_pixels(source: Source, name: str | None = None) -> np.ndarray:
    """Read an image with its own values: uint8 (H, W, 3), or a wider type, (H, W) or (H, W, 3).

    Args:
        source: As for `decode_image`.
        name: Likewise.

    Raises:
        DataError: As `decode_image` does.
    """
    return guarded(lambda source: _own_values(read_contents(source)), source, name)


def _own_values(contents: Contents) -> np.ndarray:
    values = contents.values
    if contents.palette is not None:
        values = contents.palette[values]
    if values.dtype == bool:
        values = values * np.uint8(255)
    if values.dtype == np.uint8 and values.ndim == 2:
        values = np.repeat(values[..., None], 3, axis=2)
    if contents.alpha is not None:
        picture = Image.fromarray(np.dstack([values, contents.alpha]))
        values = np.array(Image.alpha_composite(Image.new("RGBA", picture.size, (0, 0, 0, 255)), picture))[..., :3]
    return values
