"""Masks of known geometry: shapes are drawn with 16 points a pixel, and half of them make foreground."""

import numpy as np

FINE = 4


def drawn(*shapes, size=(260, 300)) -> np.ndarray:
    """bool (H, W): the union of shapes, functions of row and column (arrays) that say what is inside."""
    height, width = size
    step = (np.arange(FINE) + 0.5) / FINE - 0.5 + 0.13  # so that no edge covers just half of a pixel
    row = (np.arange(height)[:, None] + step).ravel()[:, None]
    column = (np.arange(width)[:, None] + step).ravel()[None]
    row, column = row.astype(np.float32), column.astype(np.float32)
    inside = np.zeros((height * FINE, width * FINE), bool)
    for shape in shapes:
        inside |= shape(row, column)
    return inside.reshape(height, FINE, width, FINE).mean((1, 3)) >= 0.5


def bar(start, end, width):
    """A straight bar with blunt ends."""
    (y, x), (b, a) = start, end
    length = np.hypot(b - y, a - x)
    down, right = (b - y) / length, (a - x) / length
    return lambda row, column: (
        (np.abs((row - y) * right - (column - x) * down) <= width / 2)
        & (np.abs((row - y) * down + (column - x) * right - length / 2) <= length / 2)
    )


def ring(centre, radius, width):
    return lambda row, column: np.abs(np.hypot(row - centre[0], column - centre[1]) - radius) <= width / 2


def spiral(centre, inner, pitch, turns, width):
    """Of Archimedes; it begins and ends bluntly, on the ray to the right of the centre."""

    def inside(row, column):
        radius = np.hypot(row - centre[0], column - centre[1])
        turn = np.arctan2(row - centre[0], column - centre[1]) / (2 * np.pi) % 1
        slope = np.hypot(1, pitch / (2 * np.pi * np.maximum(radius, 1)))
        number = np.round((radius - inner) / pitch - turn)
        off = radius - inner - pitch * (turn + number)
        return (np.abs(off) <= width / 2 * slope) & (number >= 0) & (number < turns)

    return inside


def spiral_length(inner, pitch, turns):
    angle = np.linspace(0, 2 * np.pi * turns, 100001)
    radius = inner + pitch * angle / (2 * np.pi)
    return float(np.hypot(np.diff(radius * np.cos(angle)), np.diff(radius * np.sin(angle))).sum())


def at(centre, angle, distance):
    """The point `distance` away from the centre, in degrees from the right."""
    return centre[0] + distance * np.sin(np.deg2rad(angle)), centre[1] + distance * np.cos(np.deg2rad(angle))


def line(angle, width, length=200, centre=(130, 150), offset=(0, 0)):
    centre = centre[0] + offset[0], centre[1] + offset[1]
    return bar(at(centre, angle, -length / 2), at(centre, angle, length / 2), width)
