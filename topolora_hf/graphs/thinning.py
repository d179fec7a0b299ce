"""Thinning of a mask to lines of one pixel."""

import numpy as np

_WORD = 64


def thin(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Thin a mask to its skeleton by algorithm A1 of Guo and Hall 1989 (doi:10.1145/62065.62074).

    The skeleton is that of `skimage.morphology.thin`. Pixels are worked on 64 at a time, as the bits of a word, and
    only those words that may still change: a photograph of a whole fundus takes less than a tenth of a second.

    Args:
        mask: bool (H, W). Outside it is background.

    Returns:
        The skeleton, bool (H, W), and the number of subiterations. A pixel of the skeleton depends on the mask no
        farther away than that.

    Raises:
        ValueError: The array is no mask.
    """
    if mask.ndim != 2 or mask.dtype != bool:
        raise ValueError(f"expected a mask, bool (H, W); got {mask.dtype} {mask.shape}")
    height, width = mask.shape
    stride = -(-width // _WORD) + 1  # the last word of a row is empty: what lies beside the first and the last
    packed = np.zeros((height + 2, stride * 8), np.uint8)
    packed[1:-1, : -(-width // 8)] = np.packbits(mask, axis=1, bitorder="little")
    words = packed.view("<u8").ravel()
    rounds, since = 0, 0
    changed = np.flatnonzero(words)
    earlier = changed
    while since < 2:
        active = _around(np.concatenate([changed, earlier]), words, stride)
        gone = _removable(words, active, stride, rounds % 2)
        earlier, changed = changed, active[gone != 0]
        words[active] &= ~gone
        rounds, since = rounds + 1, 0 if len(changed) else since + 1
    skeleton = np.unpackbits(packed[1:-1], axis=1, count=width, bitorder="little")
    return skeleton.view(bool), rounds


def _around(changed: np.ndarray, words: np.ndarray, stride: int) -> np.ndarray:
    """Indices of the words with foreground that are beside a changed one, or are it."""
    near = np.zeros(len(words), bool)
    near[changed] = True
    near[1:-1] |= near[:-2] | near[2:]
    near[stride:-stride] |= near[: -2 * stride] | near[2 * stride :]
    return np.flatnonzero(near & (words != 0))


def _removable(words: np.ndarray, here: np.ndarray, stride: int, parity: int) -> np.ndarray:
    """uint64 (N,): the pixels of these words that may go in an odd (parity 0) or an even subiteration.

    p2 to p9 are the neighbours of a pixel clockwise from the one above, as in the paper.
    """
    p9, p2, p3 = _row(words, here - stride)
    p8, p1, p4 = _row(words, here)
    p7, p6, p5 = _row(words, here + stride)
    p23, p34, p45, p56, p67, p78, p89, p92 = p2 | p3, p3 | p4, p4 | p5, p5 | p6, p6 | p7, p7 | p8, p8 | p9, p9 | p2
    a, b, c, d = p34 & ~p2, p56 & ~p4, p78 & ~p6, p92 & ~p8  # as many as pieces around the pixel
    one_piece = (a ^ b ^ c ^ d) & ~(a & b | c & d)
    n1 = p92 & p34 | p56 & p78 | (p92 | p34) & (p56 | p78)  # two or more of the four pairs
    n2 = p23 & p45 | p67 & p89 | (p23 | p45) & (p67 | p89)
    full = p92 & p34 & p56 & p78 & p23 & p45 & p67 & p89  # both counts are four
    blocked = (p23 | ~p5) & p4 if parity == 0 else (p67 | ~p9) & p8
    return p1 & one_piece & n1 & n2 & ~full & ~blocked


def _row(words: np.ndarray, here: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The words, and the pixels to the left and to the right of each of theirs: left, same, right."""
    same, one, last = words[here], np.uint64(1), np.uint64(_WORD - 1)
    return same << one | words[here - 1] >> last, same, same >> one | words[here + 1] << last
