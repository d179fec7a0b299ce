"""One synthetic picture of an endless set."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from . import ALL_KINDS, KINDS, SHARES
from .blobs import draw_blobs
from .cracks import draw_cracks
from .networks import draw_networks
from .roads import draw_aerial, draw_roads
from .variants import draw_variants
from .vessels import draw_vessels

_PAINTERS = {"vessels": draw_vessels, "cracks": draw_cracks, "roads": draw_roads, "blobs": draw_blobs}
_PAINTERS["arteries_veins"] = partial(draw_vessels, of_classes=True)
_PAINTERS |= {"networks": draw_networks, "variants": draw_variants, "aerial": draw_aerial}
SMALLEST_SIZE = 64  # pixels: below this the coarse structures do not fit


def draw_synthetic(index: int, seed: int = 0, size: int = 256, kinds: Sequence[str] = KINDS) -> dict:
    """Draw picture number `index` of the endless set number `seed`.

    Args:
        index: which picture, from 0. Its kind is drawn too: over half are vessels by default.
        seed: which set, from 0; sets of different seeds have no picture in common.
        size: side of the square picture in pixels, at least 64.
        kinds: which of `ALL_KINDS` to choose from, in their usual proportion; one that is named twice comes twice as
            often. Or `["arteries_veins"]`: fundus photographs whose mask has two maps, arteries and veins, which cross.

    Returns:
        A sample: `id` (str, such as `"vessels-000017"`), `image` (uint8 (size, size, 3), RGB), `mask` (uint8 (K, size,
        size), 0 or 1, both present; K = 1 but for arteries and veins) and `valid_mask` (bool (size, size), the field of
        view: a circle for some of the fundus-like vessels, else all True). The same arguments give the same arrays.

    Raises:
        ValueError: for a negative index or seed, a size below 64, or kinds that are empty, unknown or of different K.

    >>> sample = draw_synthetic(17, kinds=["cracks"])
    >>> sample["id"], sample["image"].shape, sample["mask"].max().item()
    ('cracks-000017', (256, 256, 3), 1)
    """
    for name, value, smallest in (("index", index, 0), ("seed", seed, 0), ("size", size, SMALLEST_SIZE)):
        if value < smallest:
            raise ValueError(f"{name} must be at least {smallest}, got {value}")
    unknown = [kinds] if isinstance(kinds, str) else sorted(set(kinds) - set(ALL_KINDS))
    if (unknown or not kinds) and set(kinds) != {"arteries_veins"}:
        raise ValueError(
            f"kinds must be a non-empty list from {', '.join(ALL_KINDS)}, or arteries_veins; got {kinds!r}"
        )
    chosen = [kind for kind in _PAINTERS if kind in kinds]
    shares = np.array([SHARES.get(kind, 1.0) * kinds.count(kind) for kind in chosen])
    kind = chosen[np.random.default_rng([seed, index]).choice(len(chosen), p=shares / shares.sum())]
    # A stream of its own for each kind: a picture does not depend on which other kinds were asked for.
    rng = np.random.default_rng([seed, index, list(_PAINTERS).index(kind) + 1])
    image, mask, field_of_view = _PAINTERS[kind](rng, size)
    masks = mask.reshape(-1, size, size).astype(np.uint8)
    return {"id": f"{kind}-{index:06d}", "image": image, "mask": masks, "valid_mask": field_of_view}
