"""Where on the map a GeoTIFF lies: its tags, copied from an image to its mask without knowing what they mean."""

from pathlib import Path

import numpy as np

from ..files import whole_file

GeoTags = tuple[tuple[int, int, int, object], ...]
"""Code, number type, count and value of each tag."""

_CODES = (33550, 33922, 34264, 34735, 34736, 34737)  # scale, tie points, transform, and three of the coordinate system
_NODATA, _ASCII = 42113, 2
_SOFTWARE = "topolora_hf"


def read_geotags(page) -> GeoTags:
    """The tags of a `tifffile.TiffPage`; empty if it has none."""
    tags = [page.tags[code] for code in _CODES if code in page.tags]
    return tuple((tag.code, int(tag.dtype), 0 if tag.dtype == _ASCII else tag.count, tag.value) for tag in tags)


def write_geotiff(values: np.ndarray, path: str | Path, tags: GeoTags, nodata: int | None = None) -> None:
    """Write uint8 (H, W) as a packed GeoTIFF, whole or not at all; `tags` are those of the image of the same size.

    Raises:
        FileExistsError: A file of another program has that name.
    """
    import tifffile

    if Path(path).exists():  # perhaps the image itself
        with tifffile.TiffFile(path) as file:
            if file.pages.first.software != _SOFTWARE:
                raise FileExistsError(f"{path} was not written by {_SOFTWARE} and is not replaced: choose another name")
    extra = [(*tag, True) for tag in tags]
    if nodata is not None:
        extra.append((_NODATA, _ASCII, 0, str(nodata), True))
    options = {"photometric": "minisblack", "compression": "zlib", "metadata": None, "software": _SOFTWARE}
    with whole_file(path) as temporary:
        tifffile.imwrite(temporary, values, extratags=extra, **options)
