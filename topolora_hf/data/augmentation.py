"""What training varies in an image, and how far."""

from dataclasses import dataclass

from ..settings import check_limits, option


@dataclass(frozen=True)
class Augmentation:
    """What is varied, and how far. Zero, False or (1, 1) turns a variation off."""

    __module__ = "topolora_hf"  # wherever the file lies

    flips: bool = option(True, "mirror left-right and up-down, each half of the time")
    quarter_turns: bool = option(True, "turn by 0, 90, 180 or 270 degrees")
    zoom: tuple[float, float] = option((0.8, 1.25), "least and largest enlargement of the image", above=0)
    brightness: float = option(0.15, "largest shift, as a share of the full range", at_least=0)
    contrast: float = option(0.25, "largest relative change of the distances to the tile's mean", at_least=0)
    gamma: float = option(0.3, "largest natural logarithm of the exponent put on values in [0, 1]", at_least=0)
    colour: float = option(0.1, "largest relative change of a single channel", at_least=0)
    noise: float = option(0.03, "largest standard deviation of Gaussian noise, of the full range", at_least=0)

    def __post_init__(self):
        check_limits(self)
        low, high = self.zoom
        if low > high:
            raise ValueError(f"zoom must be (least, largest), got {self.zoom}")
