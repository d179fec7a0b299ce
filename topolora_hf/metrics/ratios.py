"""Quotients that are NaN where they are undefined, never a silent 0 or 1: a mean over images leaves them out."""

import numpy as np


def ratio(part: float, whole: float) -> float:
    """`part / whole`, NaN when the whole is 0."""
    return part / whole if whole else float("nan")


def ratios(parts: np.ndarray, wholes: np.ndarray) -> np.ndarray:
    """(N,) `ratio` of each pair; no whole may be negative."""
    return np.divide(parts, wholes, out=np.full(wholes.shape, np.nan), where=wholes > 0)


def harmonic_mean(first: float, second: float) -> float:
    """Of two shares in [0, 1]; 0 when both are 0."""
    return 2 * first * second / (first + second) if first + second else 0.0
