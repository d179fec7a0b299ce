"""Which adapter predicts, and how: what `predict` and `score` share."""

from dataclasses import dataclass, field

from ..inference.loading import (
    ADAPTER_HELP,
    DTYPE_HELP,
    autocast_dtype,
    load_network,
)
from ..inference.predictor import Predictor

_SCALE_HELP = (
    "how much images are enlarged first, where theirs is another scale than the training images'; by default not, but "
    "retinal photographs so that their disc is as large as those were"
)
_SCALES_HELP = (
    "average the probabilities at each of these times that size, such as 0.8 1 1.25: in place of the adapter's own"
)
_COLOURS_HELP = (
    "give retinal photographs whose colours no training image had those of the training images: another camera's"
)


@dataclass(kw_only=True)
class InferenceArguments:
    """Which adapter predicts, and how."""

    adapter: str = field(metadata={"help": ADAPTER_HELP})
    base: str | None = field(
        default=None, metadata={"help": "the base, where it is not the one that the adapter names"}
    )
    threshold: float | None = field(default=None, metadata={"help": "in place of the adapter's own"})
    scale: float | None = field(default=None, metadata={"help": _SCALE_HELP})
    match_colours: bool = field(default=True, metadata={"help": _COLOURS_HELP})
    test_time_flips: bool | None = field(
        default=None, metadata={"help": "average each tile's four mirrorings, or not: in place of the adapter's own"}
    )
    test_time_scales: list[float] | None = field(default=None, metadata={"help": _SCALES_HELP})
    dtype: str | None = field(default=None, metadata={"help": DTYPE_HELP})
    tile_batch: int = field(default=4, metadata={"help": "tiles that run at once; more need more memory"})


def build_predictor(args: InferenceArguments) -> Predictor:
    """The predictor that the settings ask for.

    Raises:
        ValueError: the threshold is not in [0, 1].
    """
    model = load_network(args.adapter, args.base)
    if args.threshold is not None:
        if not 0 <= args.threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {args.threshold}")
        model.adapter_settings.threshold = args.threshold
    dtype = autocast_dtype(args.dtype)
    return Predictor(
        model,
        scale=args.scale,
        flips=args.test_time_flips,
        scales=args.test_time_scales,
        tile_batch=args.tile_batch,
        dtype=dtype,
        match_colours=args.match_colours,
        within_disc=getattr(args, "within_disc", None),
    )
