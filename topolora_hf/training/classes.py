"""What the K maps of the training masks are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..data.errors import DataError
from ..metrics.classes import label_values


@dataclass(frozen=True)
class TaskClasses:
    """The K classes of a task.

    Data that `load_segmentation_data` reads says its own; with rows of one's own they are given to `train`.

    Attributes:
        labels: their names.
        exclusive: whether a pixel is of one class at most.
        thin: which of them are thin structures, for clDice; by default all.
    """

    __module__ = "topolora_hf"  # wherever the file lies

    labels: Sequence[str] = ("foreground",)
    exclusive: bool = False
    thin: Sequence[bool] | None = None

    def __post_init__(self):
        object.__setattr__(self, "labels", tuple(self.labels))
        object.__setattr__(self, "thin", (True,) * len(self.labels) if self.thin is None else tuple(self.thin))
        if len(self.thin) != len(self.labels):
            raise ValueError(f"thin is given for {len(self.thin)} classes, and {len(self.labels)} have names")
        label_values(self.labels, self.exclusive)  # an error now, not when masks of the trained adapter are written

    @classmethod
    def of(cls, splits: Mapping[str, Sequence[dict]], given: "TaskClasses | None" = None) -> "TaskClasses":
        """Read the classes from loaded data, or take those given with plain rows; by default one.

        Raises:
            ValueError: classes are given with data that says its own.
            DataError: the masks have another number of maps.
        """
        if hasattr(splits, "labels"):
            if given is not None:
                raise ValueError(f"the data says what its classes are ({', '.join(splits.labels)}): give no others")
            return cls(splits.labels, splits.exclusive, splits.thin)
        classes = given or cls()
        for split, rows in splits.items():
            shape = np.shape(rows[0]["mask"]) if len(rows) else (len(classes.labels), 0, 0)
            if len(shape) != 3 or shape[0] != len(classes.labels):
                raise DataError(
                    f"a mask must have the shape (K, H, W), with K={len(classes.labels)} for "
                    f"{', '.join(classes.labels)}; the first of {split} has {shape}. `classes` says what the maps are"
                )
        return classes

    @property
    def thin_labels(self) -> tuple[str, ...] | None:
        """The names of those that clDice is computed for; None: of all."""
        names = tuple(label for label, is_thin in zip(self.labels, self.thin, strict=True) if is_thin)
        return None if names == self.labels else names

    def require_structure(self, rows: Sequence[dict], split: str) -> None:
        """Check that each class is there to be calibrated on. DataError names those that no image shows."""
        if hasattr(rows, "select_columns"):  # the images need not be decoded for this
            rows = rows.select_columns(["mask"])
        missing = set(range(len(self.labels)))
        for number in range(len(rows)):
            missing -= set(np.flatnonzero(np.any(rows[number]["mask"], axis=(1, 2))).tolist())
            if not missing:
                return
        names = ", ".join(self.labels[k] for k in sorted(missing))
        raise DataError(
            f"calibrate fits each class on {split} images, and none of these {len(rows)} shows any {names}: calibrate "
            f"on {'train' if split == 'validation' else 'validation'} (--calibrate), or not at all (none)"
        )
