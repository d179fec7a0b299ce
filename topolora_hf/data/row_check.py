"""One row's files looked at: what they turned out to be, and what is wrong with them."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from .errors import DataError
from .images.masks import AmbiguousMask, MaskReading, combine, read_mask
from .images.pictures import read_picture
from .intensity import Numbers
from .mask_rule import USUAL_FORM, MaskForm
from .place import apart_on_map
from .records import ESTIMATED, Record, row_name

NO_MASK = "no mask"
UNKNOWN = "mask with values that no class has"
SHARED = "mask with pixels of two classes, which exclusive forbids"
AMBIGUOUS = "mask that can be read in several ways"
_OTHER_SIZE = "image and mask differ in size"
_OTHER_PLACE = "image and mask lie at different places of the map"


@dataclass
class RowCheck:
    """What one row's files turned out to be."""

    image: str  # what reports call the image
    mask: str  # and its mask, or the image again if there is none
    problems: list[tuple[str, str]] = field(default_factory=list)  # a kind, and what to report under it
    size: tuple[int, int] | None = None  # width and height of the image, if it can be read
    foreground: float | None = None  # share of the pixels, if the mask can be read
    of_class: tuple[float, ...] = ()  # the same of each class
    structure: tuple[tuple[str, str], ...] = ()  # class and level that its masks take as structure without being told
    levels: dict[str, tuple[float, str]] = field(default_factory=dict)  # share of each level, and what it is taken for
    unknown: dict[str, int] = field(default_factory=dict)  # pixels of each level that needs a class and has none
    unnamed: dict[str, float] = field(default_factory=dict)  # share of each level that the rule does not name
    ignored: float = 0.0  # share of the pixels
    is_soft: bool = False  # its mask has grey levels and was cut at half
    is_turned: bool = False  # as its orientation says, the mask has none, and their sizes do not settle which is right
    doubt: AmbiguousMask | None = None
    fingerprint: bytes = b""  # of the image's pixels
    numbers: Numbers | None = None  # what the image's values are


def check_record(
    record: Record, data_dir: Path, form: MaskForm = USUAL_FORM, bands: Sequence[int] | None = None
) -> RowCheck:
    """Decode all files of a row: a truncated file only shows when it is decoded."""
    name = partial(row_name, folder=data_dir)
    check = RowCheck(name(record.image), name(record.masks[0] if record.masks else record.image))

    def read(what: str, path: Path, decode: Callable, *args):
        try:
            return decode(path, name(path), *args)
        except DataError as error:
            if what == "mask" and isinstance(error.__cause__, AmbiguousMask):
                check.doubt = error.__cause__
                check.problems.append((AMBIGUOUS, name(path)))
            else:
                check.problems.append((f"unreadable {what}", str(error)))
            return None

    image = read("image", record.image, read_picture, bands)
    groups = [
        [read("mask", path, read_mask, rule) for path in group]
        for group, rule in zip(record.groups, form.rules, strict=False)
    ]
    readings = dict(zip(record.masks, (reading for group in groups for reading in group), strict=True))
    has_view = record.valid_mask not in (None, ESTIMATED)
    view = read("field of view", record.valid_mask, read_mask) if has_view else None
    if None in (record.class_masks or (record.mask,)):
        names = [form.names[k] for k, each in enumerate(record.class_masks[: len(form.names)]) if each is None]
        is_partial = 0 < len(names) < len(form.names)
        check.problems.append((NO_MASK, check.image + f" (of {', '.join(names)})" * is_partial))
    if not all(readings.values()):
        readings = {}
    for path, reading in [*readings.items(), *([(record.valid_mask, view)] if view else [])]:
        size = reading.mask.shape[:0:-1]
        if image is not None and size != image.size:
            text = "{} is {}x{}, {} is {}x{}".format(check.image, *image.size, name(path), *size)
            if size == image.size[::-1]:
                text += f", one is turned: orientation (EXIF) is {image.orientation} for the image, "
                text += f"{reading.orientation} here"
            check.problems.append((_OTHER_SIZE, text))
        elif image is not None and (apart := apart_on_map(record.image, path, *image.size[::-1])):
            check.problems.append((_OTHER_PLACE, f"{check.image} and {name(path)}: {apart}"))
    if view and not view.mask.any():
        check.problems.append(("field of view shows nothing", name(record.valid_mask)))
    if record.is_negative:
        check.foreground = 0.0
    if image is not None:
        check.size, check.numbers, check.fingerprint = image.size, image.numbers, _fingerprint(image.values)
        if readings and _OTHER_SIZE not in dict(check.problems):
            _add_masks(check, groups, form, image.orientation)
    return check


def _add_masks(check: RowCheck, groups: Sequence[Sequence[MaskReading]], form: MaskForm, orientation: int) -> None:
    masks, ignored = combine(groups, len(form.names))
    readings = [reading for group in groups for reading in group]
    check.foreground = float(np.count_nonzero(masks.any(axis=0))) / masks[0].size
    check.of_class = tuple(float(mask.mean()) for mask in masks)
    names = form.names if len(groups) > 1 else ("",)
    named = {(name, each.structure) for name, group in zip(names, groups, strict=False) for each in group}
    check.structure = tuple(pair for pair in sorted(named) if pair[1] not in ("", "opaque"))
    check.levels = _meanings(groups, form.names)
    check.unnamed = {name: share for reading in readings for name, share in reading.unnamed.items()}
    check.unknown = dict(sum((Counter(reading.unknown) for reading in readings), Counter()))
    if check.unknown:
        check.problems.append((UNKNOWN, check.mask))
    shared = int(np.count_nonzero(masks.sum(axis=0) > 1)) if form.exclusive else 0
    if shared:
        check.problems.append((SHARED, f"{check.mask} ({shared} pixels)"))
    check.ignored = 0.0 if ignored is None else float(ignored.mean())
    check.is_soft = any(reading.is_soft for reading in readings)
    keeps_size = orientation in (2, 3, 4) or (orientation != 1 and check.size[0] == check.size[1])
    check.is_turned = keeps_size and all(reading.orientation == 1 for reading in readings)


def _meanings(groups: Sequence[Sequence[MaskReading]], names: Sequence[str]) -> dict[str, tuple[float, str]]:
    """The levels of a row's masks, with share and meaning; after the name of the class where each has own masks."""
    found = {}
    for number, group in enumerate(groups):
        of_group = (*names, "ignored")[number]
        for reading in group:
            for level, (share, maps) in reading.levels.items():
                if maps is None:
                    meaning = "ignored"
                elif len(groups) == 1:
                    nothing = "?" if level in reading.unknown else "background"
                    meaning = " and ".join(names[k] for k in maps) or nothing
                else:
                    meaning = of_group if maps else "background"
                found[f"{of_group}: {level}" if len(groups) > 1 else level] = (share / len(group), meaning)
    return found


def _fingerprint(pixels: np.ndarray) -> bytes:
    digest = hashlib.blake2b(repr((pixels.shape, pixels.dtype.str)).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels))
    return digest.digest()
