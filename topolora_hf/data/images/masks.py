"""Image files to binary masks. One rule says for a whole data set what is structure, and nothing is guessed."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import DataError
from ..mask_rule import RANGE, USUAL, MaskRule
from .containers import Contents, Source, guarded, read_contents

_NEAR = 24  # by which a lossy format moves a value
_NOISE = 0.01  # share of a lossy mask between its two levels
_SMEAR = 0.02  # share of what a lossy mask marks in other colours
_MOST_EQUAL = 0.6  # of neighbouring grey levels; in a map of classes or objects nearly all are equal
_MOST_LISTED = 16  # levels of one meaning; more are told as one
_MOST_SUGGESTED = 12  # classes
_DARK, _BRIGHT = 85, 170  # for two levels of which none is black


@dataclass(frozen=True)
class MaskReading:
    """A mask and what was found in its file."""

    mask: np.ndarray  # uint8 (K, H, W) of 0 and 1
    ignored: np.ndarray | None = None  # bool (H, W), what is neither structure nor background; None if nothing
    structure: str = ""  # the level taken as structure where the rule names none; empty if the mask has none
    unnamed: dict[str, float] = field(default_factory=dict)  # share of each background level that no rule names
    unknown: dict[str, int] = field(default_factory=dict)  # pixels of each level that has no class, though it needs one
    # share of each level, and the maps that have it (none: background); None if it is left out
    levels: dict[str, tuple[float, tuple[int, ...] | None]] = field(default_factory=dict)
    is_soft: bool = False  # it has grey levels from dark to bright, and was cut at half
    orientation: int = 1  # of EXIF or TIFF, as stored; 1 if nothing had to be turned


class AmbiguousMask(DataError):
    """A mask that can be read in several ways; `shares` has the share of each of its levels."""

    def __init__(self, reason: str, shares: dict[str, float]):
        super().__init__(f"{reason}: {describe_levels(shares)}. {flags_for(shares)}")
        self.reason, self.shares = reason, shares

    def __reduce__(self):
        return AmbiguousMask, (self.reason, self.shares)  # as it travels between processes


def describe_levels(shares: dict[str, float], most: int = 8) -> str:
    """Levels and their shares, in words.

    >>> describe_levels({"0": 0.9, "255": 0.1})
    '0 (90 %), 255 (10 %)'
    """
    shown = [f"{name} ({100 * share:.2g} %)" for name, share in shares.items()]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")


def flags_for(shares: dict[str, float]) -> str:
    """The flags for each way to read masks of these levels."""
    levels = [name for name in shares if name not in ("0", "#000000", "transparent", "no data")]
    first = min(levels or ["0"], key=lambda name: name.startswith("-"))
    parts = [f'--mask_values "{first}" (or several) says what is structure']
    if levels:
        parts.append("--mask_values all takes everything but 0 and black")
    if len(levels) > 1 and any(name.isdigit() and int(name) > 127 for name in levels):
        parts.append("--mask_values 128-255 cuts grey levels at half")
    if 1 < len(levels) <= _MOST_SUGGESTED:
        named = " ".join(f"class{number}={name}" for number, name in enumerate(levels, start=1))
        parts.append(f"--classes {named} makes each value a class (write their names)")
    left_out = next((name for name in ("transparent", "255", "-1") if name in shares), (levels or ["0"])[-1])
    return "; ".join([*parts, f'--ignore "{left_out}" leaves a value out']) + "."


def decode_mask(source: Source, name: str | None = None, rule: MaskRule = USUAL) -> np.ndarray:
    """Read a binary mask.

    Without a rule a mask has two levels: 0 and anything, black and a colour, a dark and a bright palette, or one colour
    on transparent ground. Grey levels that pass from dark to bright, and those of JPEG, are cut at half of their range.

    Args:
        source: A path, the encoded file itself as bytes, or an opened PIL image.
        name: What to call the mask in errors; the path by default.
        rule: What is structure.

    Returns:
        uint8 array (H, W) of 0 (background and what is ignored) and 1 (foreground).

    Raises:
        DataError: The file cannot be read, or can be read in several ways (its cause is then an `AmbiguousMask`).
    """
    return read_mask(source, name, rule).mask[0]


def read_mask(source: Source, name: str | None = None, rule: MaskRule = USUAL) -> MaskReading:
    """Read a mask as `decode_mask` does, or the maps of several classes, with what was found in its file."""
    return guarded(lambda source: _Levels(read_contents(source), bool(rule.classes)).read(rule), source, name)


def unite(readings: Sequence[MaskReading]) -> tuple[np.ndarray, np.ndarray | None]:
    """The masks (K, H, W) of an image with several files, and what these leave out."""
    if len({reading.mask.shape for reading in readings}) > 1:
        raise DataError("the masks of one image differ in size")
    mask = np.logical_or.reduce([reading.mask for reading in readings]).astype(np.uint8)
    ignored = [reading.ignored for reading in readings if reading.ignored is not None]
    return mask, np.logical_or.reduce(ignored) & ~mask.any(axis=0) if ignored else None


def combine(groups: Sequence[Sequence[MaskReading]], maps: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The masks (K, H, W) of a row and what they leave out.

    Args:
        groups: The readings of its files: one group of K maps; or a group a class, and perhaps one more whose structure
            is left out. An empty group has none.
        maps: K.
    """
    united = [unite(group) if group else None for group in groups]
    shapes = {each[0].shape[-2:] for each in united if each}
    if len(shapes) > 1:
        raise DataError("the masks of one image differ in size")
    empty = np.zeros((1, *shapes.pop()), np.uint8), None
    of_class = [each or empty for each in united]
    masks = np.concatenate([mask for mask, _ in of_class[:maps]])
    left_out = [ignored for _, ignored in of_class if ignored is not None]
    left_out += [mask[0] == 1 for mask, _ in of_class[maps:]]
    return masks, np.logical_or.reduce(left_out) if left_out else None


class _Levels:
    """A mask as levels, and which of them each pixel has.

    `codes` is (H, W), `counts` says how many pixels have a level. Of each level there is its number (NaN if none), its
    colour in `rgb` (None for a grey mask), and its `light`: how bright it is, NaN if it is transparent or no number.
    """

    def __init__(self, contents: Contents, of_classes: bool = False):
        self.contents, self.is_lossy, self.rgb, values = contents, contents.is_lossy, None, contents.values
        self.is_indexed = False  # levels have a number and a colour
        if values.ndim == 3 and (values == values[..., :1]).all():
            values = values[..., 0]
        if values.ndim == 3:
            if values.dtype.kind == "f" or values.min() < 0:
                raise DataError(f"has colours of {values.dtype}, which have no names; save it with 8 bits")
            colours = values if values.max() <= 255 else values >> 8
            levels, self.codes = _factored((colours.astype(np.int64) << np.array([16, 8, 0])).sum(axis=2))
            self.rgb, self.numbers = levels[:, None] >> np.array([16, 8, 0]) & 255, np.full(len(levels), np.nan)
        else:
            levels, self.codes = _factored(values * np.uint8(255) if values.dtype == bool else values)
            self.numbers = levels.astype(np.float64)
        if contents.palette is not None:
            self._use_colours(contents.palette, np.unique(values), of_classes)
        self.top = np.iinfo(values.dtype).max if values.dtype.kind in "ui" else 255
        self.light = self.numbers if self.rgb is None else self.rgb.max(axis=1).astype(np.float64)
        if np.isinf(self.light).any():
            raise DataError("holds infinite values; a mask of two classes is needed (0 and 1, or 0 and 255)")
        self.hidden = self.no_data = None
        if contents.alpha is not None and contents.alpha.min() < 128:
            self.hidden = self._add_level(contents.alpha < 128)
        if contents.valid is not None and contents.nodata != 0:  # a map of structures may call its background no data
            self.no_data = self._add_level(~contents.valid)
        self.counts = np.bincount(self.codes.ravel(), minlength=len(self.light))

    def _use_colours(self, palette: np.ndarray, used: np.ndarray, of_classes: bool) -> None:
        """Take the colours of a palette as levels, whatever their order; its indices, if they have all one colour.

        Classes may be named by index or by colour: two indices stay two levels.
        """
        colours, level_of = np.unique(palette[used].astype(np.int64), axis=0, return_inverse=True)
        if len(colours) == 1 < len(used):
            return
        if of_classes and (palette != palette[:, :1]).any():  # of all files alike, whichever levels this one has
            self.rgb, self.is_indexed = np.zeros((256, 3), np.int64), True
            self.rgb[: len(palette)] = palette
            return
        table = np.zeros(256, np.int64)
        table[used] = level_of.ravel()
        self.codes = table[self.codes]
        if (colours == colours[:, :1]).all():
            self.numbers = colours[:, 0].astype(np.float64)
            return
        self.rgb, self.numbers = colours, np.full(len(colours), np.nan)
        if len(colours) == len(used):
            self.numbers[level_of.ravel()] = used

    def _add_level(self, where: np.ndarray) -> int:
        """Give pixels a level of their own, which has no number and no colour."""
        level = len(self.light)
        self.codes = np.where(where, np.int64(level), self.codes)
        self.numbers, self.light = np.append(self.numbers, np.nan), np.append(self.light, np.nan)
        self.rgb = None if self.rgb is None else np.append(self.rgb, [[0, 0, 0]], axis=0)
        return level

    def read(self, rule: MaskRule) -> MaskReading:
        is_there = self.counts > 0
        ignored = self._named(rule.ignore) | (np.isnan(self.light) & (np.arange(len(self.light)) != self.hidden))
        if rule.classes:
            return self._read_classes(rule, is_there, ignored)
        if rule.values:
            chosen, structure, is_soft = self._named(rule.values), "", False
            unnamed = self._shares(is_there & ~ignored & ~chosen)
            unnamed = {name: share for name, share in unnamed.items() if name not in ("0", "#000000", "transparent")}
        else:
            (chosen, structure, is_soft), unnamed = self._usual(is_there & ~ignored, rule), {}
        maps = ((chosen != rule.inverted) & ~ignored)[None]
        return self._reading(maps, is_there, ignored, structure=structure, unnamed=unnamed, is_soft=is_soft)

    def _read_classes(self, rule: MaskRule, is_there: np.ndarray, ignored: np.ndarray) -> MaskReading:
        """Masks (K, H, W) of the named values; a value that nothing names is `unknown`."""
        if self.is_lossy:
            problem = "is stored with loss (JPEG), which mixes the values of classes"
            raise DataError(f"{problem}: save it as PNG, or give each class a file of its own")
        background = self._named(rule.background)
        maps = np.stack([self._named(values) for values in rule.classes]) & ~ignored & ~background
        black = (self.numbers == 0) if self.rgb is None else (self.rgb == 0).all(axis=1) & ~np.isnan(self.light)
        if (black & is_there).sum() > 1:  # indices without a colour of their own
            black &= self.numbers == 0
        hidden = np.arange(len(self.light)) == self.hidden
        nameless = is_there & ~(maps.any(axis=0) | ignored | background | black | hidden)
        if (maps.any(axis=0) & is_there).any():  # 255 means "ignore" in an index map, not in a binary mask
            ignored = ignored | (nameless & (self.numbers == 255))
            nameless &= ~ignored
        unknown = {self._name(level): int(self.counts[level]) for level in np.flatnonzero(nameless)}
        return self._reading(maps, is_there, ignored, unknown=unknown)

    def _reading(self, maps: np.ndarray, is_there: np.ndarray, ignored: np.ndarray, **found) -> MaskReading:
        """The reading of which each row of `maps` (K, levels) is one mask."""
        left_out = ignored[self.codes] if (ignored & is_there).any() else None
        present = np.flatnonzero(is_there)
        meanings, meaning_of = np.unique(np.vstack([maps, ignored])[:, present], axis=1, return_inverse=True)
        levels = {}
        for number, (*in_maps, is_ignored) in enumerate(meanings.T):
            of_meaning = present[meaning_of.ravel() == number]
            names, counts = [self._name(level) for level in of_meaning[: _MOST_LISTED + 1]], self.counts[of_meaning]
            if self.is_lossy or len(of_meaning) > _MOST_LISTED:
                names, counts = [f"about {self._name(of_meaning[counts.argmax()])}"], [counts.sum()]
            taken_for = None if is_ignored else tuple(np.flatnonzero(in_maps).tolist())
            shares = [int(count) / self.codes.size for count in counts]
            levels |= {name: (share, taken_for) for name, share in zip(names, shares, strict=True)}
        masks = np.take(maps.astype(np.uint8), self.codes, axis=1)
        return MaskReading(masks, left_out, levels=levels, orientation=self.contents.orientation, **found)

    def _shares(self, levels: np.ndarray) -> dict[str, float]:
        return {self._name(level): float(self.counts[level] / self.codes.size) for level in np.flatnonzero(levels)}

    def _doubt(self, reason: str) -> AmbiguousMask:
        return AmbiguousMask(reason, self._shares(self.counts))

    def _name(self, level: int) -> str:
        if level in (self.hidden, self.no_data):
            return "transparent" if level == self.hidden else "no data"
        number, colour = f"{self.numbers[level]:.10g}", None if self.rgb is None else self.rgb[level]
        if colour is None:
            return number
        shown = "#{:02x}{:02x}{:02x}".format(*colour)
        return f"{number} ({shown})" if self.is_indexed else shown

    def _named(self, tokens: Sequence[str]) -> np.ndarray:
        """Which levels have one of these names."""
        named, reach = np.zeros(len(self.light), bool), _NEAR if self.is_lossy else 0
        for token in tokens:
            if token == "transparent":
                named[[] if self.hidden is None else self.hidden] = True
            elif token == "all":
                named |= self.light > 2 * reach
            elif token[0] == "#":
                colour = [int(token[at : at + 2], 16) for at in (1, 3, 5)]
                rgb = self.light[:, None] if self.rgb is None else self.rgb
                named |= (np.abs(rgb - colour) <= reach).all(axis=1) & ~np.isnan(self.light)
            else:
                low, high = RANGE.fullmatch(token).group("low", "high")
                named |= (self.numbers >= float(low) - reach) & (self.numbers <= float(high or low) + reach)
        return named

    def _usual(self, asked: np.ndarray, rule: MaskRule) -> tuple[np.ndarray, str, bool]:
        """Which levels are structure, what to call them, and whether they were cut at half."""
        present = np.flatnonzero(asked & ~np.isnan(self.light))
        if self.hidden is not None and asked[self.hidden]:
            if len(present) <= 1:
                return ~np.isnan(self.light), "opaque" * len(present), False
            if (self.light[present] == 0).any():
                raise self._doubt("is black in some places and transparent in others")
        if not len(present):
            return np.zeros(len(self.light), bool), "", False
        if self.contents.is_min_white and not rule.inverted:
            raise self._doubt("stores white as 0 (MinIsWhite); --invert_masks takes what is shown dark as structure")
        colour = "" if self.rgb is None else self._colour(present)
        least, peak = self.light[present].min(), self.light[present].max()
        if least < 0:
            raise self._doubt("holds negative values")
        is_pair = len(present) == 2 and least <= _DARK and peak >= _BRIGHT and (least != 1 or self.rgb is not None)
        if is_pair or not self.is_lossy and (self.light[present] > 0).sum() <= 1:
            name = colour or ("255" if peak in (255, self.top) else f"{peak:g}")
            return self.light > (least if is_pair else 0), name * bool(peak > 0), False
        cut, is_soft = self._cut(peak)
        return self.light >= cut, (colour or "255") * bool(peak >= cut), is_soft

    def _cut(self, peak: float) -> tuple[float, bool]:
        """Half of the range of grey levels, and whether there are more than the noise of a lossy format."""
        top = 255.0 if self.is_lossy else peak
        between = (self.light > top / 8) & (self.light < top * 7 / 8)
        is_soft = bool(self.counts[between].sum() > (_NOISE * self.codes.size if self.is_lossy else 0))
        is_low = (32 if self.is_lossy else 1) < peak < 128
        if is_low or not (self._is_graded(between) if is_soft else self.is_lossy):
            raise self._doubt("has more than two levels")
        return (0.5 if top <= 1 else max(top, 255.0) / 2), is_soft

    def _is_graded(self, between: np.ndarray) -> bool:
        """Whether levels between dark and bright pass into each other. In a map of classes neighbours are equal."""
        light, inside = self.light[self.codes], between[self.codes]
        pairs = equal = 0
        for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
            both = inside[one] & inside[other]
            pairs += both.sum()
            equal += (np.abs(light[one][both] - light[other][both]) <= (_NEAR / 3 if self.is_lossy else 0)).sum()
        return bool(pairs) and equal <= _MOST_EQUAL * pairs

    def _colour(self, present: np.ndarray) -> str:
        """The one colour that stands on black or near black."""
        rgb, light = self.rgb[present], self.light[present]
        if len(present) <= 2:
            if len(present) == 2 and light.min() and (light.min() > _DARK or light.max() < _BRIGHT):
                raise self._doubt("has two colours of which none is dark")
            brightest = rgb[light.argmax()]
            is_white = brightest.min() >= _BRIGHT and np.ptp(brightest) <= _NEAR
            return "255" if is_white else self._name(present[light.argmax()])
        marked = light >= (128 if self.is_lossy else 32)
        shades = rgb[marked] / light[marked, None]
        of_hue = np.bincount((shades >= 0.5) @ np.array([4, 2, 1]), self.counts[present][marked], minlength=8)
        is_one = np.sort(of_hue)[-2] <= _SMEAR * of_hue.sum() if self.is_lossy else np.ptp(shades, axis=0).max() <= 0.05
        if not is_one:
            raise self._doubt("has several colours")
        return "255" if of_hue.argmax() == 7 else f"hue {of_hue.argmax():03b}"


def _factored(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The levels that there may be, and which of them each pixel has."""
    if values.dtype == np.uint8:
        return np.arange(256), values
    if values.size < 2**20 or values.dtype.kind not in "ui" or values.min() < 0 or values.max() >= 2**24:
        levels, codes = np.unique(values, return_inverse=True)
        return levels, codes.reshape(values.shape)
    seen = np.zeros(int(values.max()) + 1, bool)  # faster than to sort them
    seen[values] = True
    return np.flatnonzero(seen), (np.cumsum(seen) - 1)[values]
