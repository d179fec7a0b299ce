"""Protocols: how images are cut for training, and what is scored."""

from dataclasses import dataclass

VIEWS = ("tiles", "full")
"""Crops at the image's own resolution, or the full image resized to one tile."""


@dataclass(frozen=True)
class Protocol:
    """One way to train and score. `None` stands for what the data set or the training arguments say."""

    name: str  # what `--protocol` calls it
    help: str
    tile_size: int | None = None
    view: str | None = None
    has_field_of_view: bool = True  # if not, every pixel is trained on and scored
    squash: int | None = None  # side to which validation and test images are resized
    scored: tuple[str, ...] = ("train", "validation", "test")  # the splits that can be
    epochs: int | None = None  # where the number of steps is not given
    warmup_fraction: float = 0.05  # of the steps
    skeleton_iterations: int | None = None  # rounds of soft erosion; None: from the training masks

    def squash_of(self, split: str) -> int | None:
        """The side to which the images of a split are resized; None for their own size."""
        return self.squash if split in ("validation", "test") else None


_NATIVE = Protocol("native", "at the image's own resolution, scored inside the field of view")
_PAPER = Protocol(
    "paper",
    "crops of 384 pixels, scored on full images squashed to 384, only to reproduce the paper's table",
    tile_size=384,
    view="tiles",
    has_field_of_view=False,
    squash=384,
    scored=("validation", "test"),
    epochs=50,
    warmup_fraction=0.0,
    skeleton_iterations=9,  # the authors' ten rounds count the first opening
)
PROTOCOLS = {protocol.name: protocol for protocol in (_NATIVE, _PAPER)}
