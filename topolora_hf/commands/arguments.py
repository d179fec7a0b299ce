"""Which adapter predicts, and how: the settings that `predict` and `score` share."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..settings import check_limits, option

if TYPE_CHECKING:
    from torch import nn

    from ..inference.predictor import Predictor

ADAPTER_HELP = "an adapter's directory or Hub id; the directory of a full network; or an embedded base such as tiny"
DTYPES = ("auto", "float32", "bfloat16", "float16")
DTYPE_HELP = "precision of the forward pass; auto: bfloat16 on a GPU that computes in it, else float32"


@dataclass(kw_only=True)
class InferenceArguments:
    """Which adapter predicts, and how."""

    adapter: str = option(help=ADAPTER_HELP, group="input")
    base: str | None = option(None, "the base; by default the one that the adapter names", group="input")
    threshold: list[float] | None = option(
        None, "probability from which a pixel is foreground, or one a class; by default the adapter's own",
        group="inference", at_least=0, at_most=1,
    )  # fmt: skip
    scale: float | None = option(
        None,
        "enlarge images by this factor first, if their scale is not that of the training images. By default no "
        "scaling, except for fundus photographs, which are scaled to the field-of-view diameter of the training images",
        group="inference",
        above=0,
    )
    match_colours: bool = option(
        True,
        "give fundus photographs whose colours are far outside those of the training images the training images' "
        "colours: they come from another camera",
        group="inference",
    )
    within_fov: bool | None = option(
        None,
        "mark nothing outside the field of view of a fundus photograph; by default so for adapters trained on fundus "
        "photographs",
        group="inference",
    )
    test_time_flips: bool | None = option(
        None, "average the four mirrorings of each tile: four times the time; by default as the adapter",
        group="inference",
    )  # fmt: skip
    test_time_scales: list[float] | None = option(
        None,
        "average over these scales, such as 0.8 1 1.25; by default as the adapter, and 1 1.5 2 for fundus photographs "
        "at least 1.9 times as many pixels wide as the training images",
        group="inference",
    )
    dtype: str = option("auto", DTYPE_HELP, group="inference", choices=DTYPES)
    tile_batch: int | None = option(
        None, "tiles that run at once; by default 4, on a GPU what its memory holds", group="inference", at_least=1
    )

    def __post_init__(self):
        check_limits(self)

    def build_predictor(self, network: "nn.Module | None" = None, **options) -> "Predictor":
        """Make the predictor that these settings ask for, of a network with `adapter_settings` or of `adapter`.

        `options` are further arguments of `Predictor`.

        Raises:
            AdapterMismatchError, OSError: The adapter does not fit its base, or one of them cannot be loaded.
            ValueError: A setting does not go with the adapter.
        """
        from ..inference.loading import load_network
        from ..inference.predictor import Predictor

        limits = self.threshold or [None]
        return Predictor(
            load_network(self.adapter, self.base) if network is None else network,
            threshold=limits[0] if len(limits) == 1 else limits,
            scale=self.scale,
            flips=self.test_time_flips,
            scales=self.test_time_scales,
            tile_batch=self.tile_batch,
            dtype=self.dtype,
            match_colours=self.match_colours,
            within_fov=self.within_fov,
            **options,
        )
