"""The classes of a data set: what they are called, and what marks them in its masks."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .errors import DataError
from .mapping_file import SUFFIXES, read_mapping
from .mask_rule import MaskForm, MaskRule, common_value, is_value

_NAME = re.compile(r"\w[\w .()-]{0,63}")  # a part of file names; "artery+vein" stands for two
_KEYS = ("values", "folder", "pattern", "thin")
_HOW = (
    'a class has numbers (1,3), ranges (1-3) or colours ("#ff0000"), a folder (vein/), files ("{stem}_vein.png"), a '
    "column or labels"
)


@dataclass(frozen=True)
class MaskClass:
    """One class, or what is background or ignored.

    `values` are values of a mask, or the names of columns or labels; none: its files, its column or its label have its
    own name. `place` is a folder ("vein/") or the name of a file ("{stem}_vein.png").
    """

    name: str
    values: tuple[str, ...] = ()
    place: str | None = None
    thin: bool = True

    @property
    def labels(self) -> tuple[str, ...]:
        """What its column, or its labels in a label tool, are called."""
        return self.values or (self.name,)


@dataclass(frozen=True)
class Classes:
    """The classes of a data set. `read_classes` makes one of what a user says."""

    classes: tuple[MaskClass, ...]
    background: MaskClass = MaskClass("background")
    ignore: MaskClass = MaskClass("ignore")
    exclusive: bool | None = None  # None: as the masks are

    @property
    def names(self) -> tuple[str, ...]:
        """What they are called, in the order of their maps."""
        return tuple(each.name for each in self.classes)

    @property
    def thin(self) -> tuple[bool, ...]:
        """Which of them are thin structures."""
        return tuple(each.thin for each in self.classes)

    @property
    def by_value(self) -> bool:
        """Whether each has values that a mask can hold."""
        return all(each.values and all(map(is_value, each.values)) and not each.place for each in self.classes)

    @property
    def is_one_name(self) -> bool:
        """Whether they only name the structure of a binary mask."""
        return len(self.classes) == 1 and self.classes[0] == MaskClass(self.names[0], thin=self.thin[0])

    @property
    def named_alone(self) -> "Classes":
        """The same, each with files of its own name."""
        return replace(self, classes=tuple(replace(each, values=(), place=None) for each in self.classes))

    def form(self, rule: MaskRule, has_own_files: bool) -> MaskForm:
        """How masks are read: `rule` says what holds whatever the class; are there files of each class?"""
        if has_own_files:  # of each class, and perhaps one whose pixels are ignored
            if any(map(is_value, self.background.values)):  # not labels of a label tool
                raise DataError(
                    "--classes: background is for several classes in one mask; where each has files of its own, "
                    "--mask_values says what is structure"
                )
            own = [each.values if each.place else () for each in (*self.classes, self.ignore)]
            ignore = rule.ignore if self.ignore.place else (*rule.ignore, *filter(is_value, self.ignore.values))
            rules = tuple(replace(rule, values=values or rule.values, ignore=ignore) for values in own)
            return MaskForm(rules, self.names, bool(self.exclusive))
        if self.is_one_name:
            ignore = (*rule.ignore, *filter(is_value, self.ignore.values))
            return MaskForm((replace(rule, ignore=ignore),), self.names)
        for each in (*self.classes, self.background, self.ignore):
            wrong = [value for value in each.values if not is_value(value)] + [each.place] * bool(each.place)
            if wrong or (each in self.classes and not each.values):
                what = f"{wrong[0]!r} is no value, and not there" if wrong else "it has neither values nor own files"
                raise DataError(f"--classes: {each.name}: {what}; {_HOW}")
        values = tuple(each.values for each in self.classes)
        is_exclusive = len(values) > 1 and not self._shared_value() if self.exclusive is None else self.exclusive
        for each in self.classes:
            if (value := common_value(each.values, rule.ignore)) is not None and "all" not in each.values:
                raise DataError(f"--ignore: value {value} is {each.name}, as --classes says; give it to one of them")
        ignore = (*rule.ignore, *self.ignore.values)
        of_map = replace(rule, classes=values, ignore=ignore, background=self.background.values)
        return MaskForm((of_map,), self.names, is_exclusive)

    def _shared_value(self) -> str | None:
        """A sentence on a value that two classes have."""
        for number, one in enumerate(self.classes):
            for other in self.classes[number + 1 :]:
                if (value := common_value(one.values, other.values)) is not None:
                    return f"{value} is of {one.name} and of {other.name}"
        return None

    def require_consistent(self) -> None:
        """Refuse classes that contradict each other; DataError says which."""
        if len(self.classes) == 1 and self.exclusive is not None:
            raise DataError("--classes: exclusive is for several classes, there is one")
        if self.exclusive and (shared := self._shared_value()):
            raise DataError(f"--classes: value {shared}, and exclusive is true; exclusive=false lets classes overlap")
        for other in (self.background, self.ignore):
            for each in (*self.classes, *([self.ignore] if other is self.background else [])):
                if (value := common_value(each.values, other.values)) is not None and "all" not in each.values:
                    raise DataError(f"--classes: value {value} is {each.name} and {other.name}; give it to one of them")
        if any(each.place for each in self.classes) and any(each.values and not each.place for each in self.classes):
            mixed = [f"{each.name}: {each.place or ', '.join(each.values) or 'its name'}" for each in self.classes]
            raise DataError(f"--classes: give each class a folder or file, or each values; got {'; '.join(mixed)}")


def read_classes(given: "str | Sequence[str] | Mapping | Classes | None") -> Classes | None:
    """Make `Classes` of what --classes says, or of a mapping as in its file; None of nothing.

    Raises:
        DataError: It cannot be understood, or contradicts itself.

    >>> read_classes(["artery=1,3", "vein=2,3"]).names
    ('artery', 'vein')
    """
    if given is None or isinstance(given, Classes):
        return given
    texts = [str(given)] if isinstance(given, str | Path) else given
    if not isinstance(texts, Mapping) and not all(isinstance(text, str) for text in texts):
        raise DataError(f"--classes: texts such as artery=1, or a mapping, are needed; got {given!r}")
    if isinstance(texts, Mapping):
        pairs = list(texts.items())
    elif len(texts) == 1 and "=" not in texts[0] and Path(texts[0]).suffix.lower() in SUFFIXES:
        pairs = list(read_mapping(Path(texts[0]), "--classes").items())
    else:
        pairs = [(name, value if sign else {}) for name, sign, value in (text.partition("=") for text in texts)]
    return _of_pairs(pairs) if pairs else None


def _of_pairs(pairs: Sequence[tuple[object, object]]) -> Classes:
    seen: dict[str, str] = {}
    found: dict[str, MaskClass] = {}
    exclusive = None
    for name, value in pairs:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            problem = "a name is needed (letters, digits, space . _ - and brackets), such as artery=1"
            raise DataError(f"--classes: {name!r}: {problem}")
        if name.casefold() in seen:
            raise DataError(f"--classes: {seen[name.casefold()]} and {name} are one name; each may be there once")
        seen[name.casefold()] = name
        if name == "exclusive":
            if str(value).lower() not in ("true", "false"):
                raise DataError(f"--classes: exclusive must be true or false, got {value!r}")
            exclusive = str(value).lower() == "true"
        else:
            found[name] = _one(name, value)
    reserved = {name: found.pop(name) for name in ("background", "ignore") if name in found}
    for name, each in reserved.items():
        if not each.values and not each.place:
            raise DataError(f"--classes: {name} needs values, as in {name}=255")
    if not found:
        raise DataError("--classes names no class, as in artery=1 vein=2")
    classes = Classes(tuple(found.values()), exclusive=exclusive, **reserved)
    classes.require_consistent()
    return classes


def _one(name: str, value: object) -> MaskClass:
    """The class of a name and what is said of it."""
    if not isinstance(value, Mapping):
        values, place = _values_or_place(name, value)
        return MaskClass(name, values, place)
    if unknown := [key for key in value if key not in _KEYS]:
        raise DataError(f"--classes: {name}: unknown key {unknown[0]!r}; allowed: {', '.join(_KEYS)}")
    values, place = _values_or_place(name, value["values"]) if "values" in value else ((), None)
    if not isinstance(value.get("thin", True), bool):
        raise DataError(f"--classes: {name}: thin must be true or false, got {value['thin']!r}")
    for key in {"folder", "pattern"} & value.keys():
        if place or not isinstance(value[key], str) or not value[key]:
            raise DataError(f"--classes: {name}: {key} must be one text, besides no other place; got {value[key]!r}")
        place = value[key].rstrip("/") + "/" if key == "folder" else value[key]
        if key == "pattern" and place.count("{stem}") != 1:
            raise DataError(f"--classes: {name}: pattern must contain {{stem}} once; got {place!r}")
    return MaskClass(name, values, place, value.get("thin", True))


def _values_or_place(name: str, value: object) -> tuple[tuple[str, ...], str | None]:
    texts = value if isinstance(value, list | tuple) else [value]
    if isinstance(value, str):
        if value.endswith("/") or value.count("{stem}") == 1:
            return (), value.removeprefix("./")
        texts = value.split(",")
    tokens = []
    for text in texts:
        is_known = isinstance(text, str | int | float) and not isinstance(text, bool)
        token = (f"{text:.10g}" if isinstance(text, float) else str(text)).strip()
        if not is_known or not token:
            quote = '; in YAML a colour needs quotes, "#ff0000"' if text is None else ""
            raise DataError(f"--classes: {name}: got {text!r}{quote}; {_HOW}")
        tokens.append(token.lower() if is_value(token.lower()) else token)
    if not tokens:
        raise DataError(f"--classes: {name} has an empty list; {_HOW}")
    return tuple(tokens), None
