"""Protocols: how images are cut for training, and what is scored."""

from dataclasses import dataclass

VIEWS = ("tiles", "full")
"""Crops at the image's own resolution, or the full image resized to one tile."""


@dataclass(frozen=True)
class Protocol:
    """One way to train and score.

    Attributes:
        name: What `--protocol` calls it.
        help: What it does, in words.
        tile_size: Side of a tile in pixels; None for the data set's own.
        view: "tiles" or "full"; None for the data set's own.
        has_field_of_view: False if every pixel is trained on and scored.
        squash: Side to which validation and test images are resized; None to score them at their own size.
        scored: The splits that can be scored.
        epochs: Passes over the training images, where the number of steps is not given; None for a number of steps.
        warmup_fraction: Part of the steps over which the learning rate rises.
        skeleton_iterations: Rounds of soft erosion; None to derive them from the training masks.
    """

    name: str
    help: str
    tile_size: int | None = None
    view: str | None = None
    has_field_of_view: bool = True
    squash: int | None = None
    scored: tuple[str, ...] = ("train", "validation", "test")
    epochs: int | None = None
    warmup_fraction: float = 0.05
    skeleton_iterations: int | None = None

    def squash_of(self, split: str) -> int | None:
        """The side to which the images of a split are resized; None for their own size."""
        return self.squash if split in ("validation", "test") else None


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("native", "at the image's own resolution, scored inside the field of view"),
        Protocol(
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
        ),
    )
}
