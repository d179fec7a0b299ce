"""The field of view of a fundus photograph, estimated from the image alone.

A photograph shows a bright circle on a dark ground, often cut straight at the top and bottom. Its edge is where
brightness rises from ground to retina. A circle is fitted to the edge by consensus (Fischler and Bolles, 1981), so
that a rim too dark to be seen is still inside. On a white ground, of paper or of a negative, the negative is looked at,
and then the largest thing on the page.
"""

from itertools import product

import numpy as np

_RISE = 0.25  # of the way from ground to retina, where the edge is taken to be
_LEAST_CONTRAST = 20  # grey levels between ground and retina
_LEAST_SIDE = 32
_WHITE = 200  # grey levels of the darkest channel of a white ground
_TOLERANCE = 0.006  # of the radius, by which a point on the circle may miss it
_LEAST_SUPPORT = 0.3  # of the outline that must lie on the circle
_LEAST_OVERLAP = 0.6  # intersection over union of the circle and what is bright
_LEAST_AREA = 0.2  # of the picture
_MOST_BRIGHT = 0.1  # of the field of view's area, of what is bright outside it
_DARK = 60  # grey levels of a camera's ground; a brighter one is drawn, so all of it is within
_FLAT = 10  # grey levels
_STRAIGHT = 0.02  # of the radius, within which a straight end goes from dark to bright
_TRIALS = 300


def estimate_field_of_view(image: np.ndarray) -> np.ndarray:
    """Find the field of view of an RGB image, uint8 (H, W, 3).

    Returns:
        bool (H, W); True everywhere if the picture shows no circle, or more than one, on a ground that is dark, white
        or of one grey.
    """
    found = _find(image)
    if found.all() and is_on_white(image) and (framed := image.min(axis=2) < _WHITE).any():
        box = _box_of(_largest_part(framed))
        if not (part := _find(image[box])).all():
            found = np.zeros_like(found)
            found[box] = part
    return found


def _find(image: np.ndarray) -> np.ndarray:
    shape = image.shape[:2]
    everywhere = np.ones(shape, dtype=bool)
    if min(shape) < _LEAST_SIDE:
        return everywhere
    from scipy import ndimage

    seen = 255 - image.min(axis=2) if is_on_white(image) else image.max(axis=2)
    brightness = ndimage.gaussian_filter(seen.astype(np.float32), 1.0)
    ground = float(np.median([np.median(corner) for corner in _corners(brightness)]))
    if brightness.max() - ground < _LEAST_CONTRAST:
        return everywhere
    retina = float(np.median(brightness[brightness > ground + 0.15 * (brightness.max() - ground)]))
    bright = _largest_part(brightness > ground + _RISE * (retina - ground))
    circle = _fit_circle(_outline(bright), shape)
    if circle is None:
        return everywhere
    row, column, radius = circle
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    inside = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
    fov = _cut_straight(inside, bright, margin=max(3, round(_STRAIGHT * radius)))
    is_round = fov.mean() >= _LEAST_AREA and (fov & bright).sum() >= _LEAST_OVERLAP * (fov | bright).sum()
    return fov if is_round and _is_alone(fov, brightness - ground, retina - ground, ground) else everywhere


def _is_alone(fov: np.ndarray, rise: np.ndarray, contrast: float, ground: float) -> bool:
    """Whether what is around a circle is ground: not retina around a bright disc, nor another eye."""
    from scipy import ndimage

    around = rise[~ndimage.binary_dilation(fov, iterations=max(3, round(_STRAIGHT * max(fov.shape))))]
    if not around.size:
        return True
    is_ground = ground <= _DARK or np.quantile(np.abs(around), 0.9) <= _FLAT
    return bool(is_ground and (around > _RISE * contrast).sum() <= _MOST_BRIGHT * fov.sum())


def is_on_white(image: np.ndarray) -> bool:
    """Whether the corners of an RGB image, uint8 (H, W, 3), are white: the ground of paper and of negatives."""
    return np.median([np.median(corner.min(axis=2)) for corner in _corners(image)]) >= _WHITE


def fov_diameter(fov: np.ndarray) -> float | None:
    """Measure the diameter in pixels of a field of view, bool (H, W), of which the picture may show a part.

    Returns:
        That of the circle that fits its edge; None if none fits.

    >>> rows, columns = np.ogrid[:80, :60]  # its left is not in the picture
    >>> fov_diameter(np.hypot(rows - 40, columns - 20) < 30.5) > 60
    True
    """
    if fov.all() or not fov.any():
        return None
    circle = _fit_circle(_outline(fov), fov.shape)
    return None if circle is None else 2 * circle[2] + 1  # it goes through the middle of the last pixels


def _corners(image: np.ndarray) -> list[np.ndarray]:
    rows, columns = ((slice(part), slice(-part, None)) for part in (max(2, side // 40) for side in image.shape[:2]))
    return [image[corner] for corner in product(rows, columns)]


def _box_of(mask: np.ndarray) -> tuple[slice, slice]:
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _largest_part(mask: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    labels, _ = ndimage.label(mask)
    return labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])


def _outline(mask: np.ndarray) -> np.ndarray:
    """First and last pixel of every row and column, (N, 2) as (row, column), without those on the image's border."""
    points = []
    for lines, order in ((mask, 1), (mask.T, -1)):
        along = np.flatnonzero(lines.any(axis=1))
        for ends in (lines.argmax(axis=1), lines.shape[1] - 1 - lines[:, ::-1].argmax(axis=1)):
            points.append(np.stack([along, ends[along]][::order], axis=1))
    outline = np.concatenate(points)
    inside = ((outline > 0) & (outline < np.array(mask.shape) - 1)).all(axis=1)
    return outline[inside].astype(np.float64)


def _fit_circle(points: np.ndarray, shape: tuple[int, int]) -> tuple[float, float, float] | None:
    """Row, column and radius of the circle on which most of the points lie; None if too few agree on one."""
    if len(points) < 10:
        return None
    least, largest = 0.25 * min(shape), float(max(shape))
    rng = np.random.default_rng(0)
    drawn = np.stack([points[rng.choice(len(points), size=3, replace=False)] for _ in range(_TRIALS)])
    circles = _circles_through(drawn)
    circles = circles[(least < circles[:, 2]) & (circles[:, 2] < largest)]
    if not len(circles):
        return None
    near = _is_near(points, *circles.T[..., None])
    best = near[near.sum(axis=1).argmax()]
    if best.mean() < _LEAST_SUPPORT:
        return None
    for _ in range(3):
        circle = _circle_through(points[best])
        best = _is_near(points, *circle)
    return circle


def _circle_through(points: np.ndarray) -> tuple[float, float, float]:
    """The least-squares circle of three or more points (Kasa, 1976)."""
    system = np.concatenate([2 * points, np.ones((len(points), 1))], axis=1)
    row, column, rest = np.linalg.lstsq(system, (points**2).sum(axis=1), rcond=None)[0]
    return float(row), float(column), float(np.sqrt(max(rest + row**2 + column**2, 0.0)))


def _circles_through(points: np.ndarray) -> np.ndarray:
    """Row, column and radius, (N, 3), of the circles through three points each, (N, 3, 2); of a line not finite."""
    origin = points[:, 0]
    (r1, c1), (r2, c2) = (np.moveaxis(points[:, 1:] - origin[:, None], 1, 0)).transpose(0, 2, 1)
    first, second = r1**2 + c1**2, r2**2 + c2**2
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = np.stack([c2 * first - c1 * second, r1 * second - r2 * first]) / (2 * (r1 * c2 - r2 * c1))
    return np.stack([*(centre + origin.T), np.hypot(*centre)], axis=1)


def _is_near(points: np.ndarray, row: float, column: float, radius: float) -> np.ndarray:
    distance = np.hypot(points[:, 0] - row, points[:, 1] - column)
    return np.abs(distance - radius) < np.maximum(_TOLERANCE * radius, 1.0)


def _cut_straight(circle: np.ndarray, bright: np.ndarray, margin: int) -> np.ndarray:
    """Take off the sides where the picture ends along a straight line before the circle does."""
    cut = circle.copy()
    for turns in range(4):  # each side in its turn is the top
        rows = np.rot90(circle, turns).sum(axis=1)
        covered = np.rot90(bright & circle, turns).sum(axis=1) / np.maximum(rows, 1)
        first = int(np.argmax(covered >= 0.5))
        # A dark rim grows brighter over many rows; a straight end does within a few.
        if covered[min(first + margin, len(covered) - 1)] >= 0.85 and covered[max(first - margin, 0)] <= 0.1:
            np.rot90(cut, turns)[:first] = False
    return cut
