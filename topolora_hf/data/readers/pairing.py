"""Which mask belongs to which image, by their names."""

import difflib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import DataError
from ..images.names import bare_name, name_in, without_suffix

_SHOWN = 3
_MASK_SUFFIX = re.compile(
    r"[-_. ]?(masks?|labels?|gt|ground[-_]?truth|seg|segmentation|annotations?|vessels?|manual\d?"
    r"|(1st|2nd)[-_]?(ho|manual)|ah|fov|valid)([-_. ]?\(?\d{1,3}\)?)?$",
    re.IGNORECASE,
)
_ANNOTATOR = re.compile(r"manual|1st|2nd|ah$|vk$", re.IGNORECASE)
_LAST_NUMBER = re.compile(r"[-_. ]?\(?\d{1,3}\)?$")
_IMAGE_SUFFIX = re.compile(r"[-_. ](sat|images?|img|rgb|training|test|orig|original)$", re.IGNORECASE)

Found = Path | tuple[Path, ...]


def pair_by_name(
    images: Mapping[str, Path], masks: Sequence[Path], masks_root: Path, mask_pattern: str | re.Pattern | None = None
) -> tuple[dict[str, Found], list[Path]]:
    """Find the mask of each image.

    Without a pattern, a mask has the image's own stem, or that with a suffix such as `_mask` or `_1stHO`, or both
    share what is left when `_sat` and `_mask` are taken off and no image has that name in full, or it lies in a folder
    of the image's stem. With a pattern, it has exactly that name. Masks that are numbered (`_mask_1`), fit a pattern
    with `*` or share such a folder are parts of one mask.

    Returns:
        The mask or masks by the stem of `images`, for those that have one; and the masks that belong to no image.

    Raises:
        DataError: An image has several masks that are not parts of one, or a mask could be that of two images.
    """
    exact = _index(masks, masks_root, pattern=mask_pattern)
    without_suffixes, by_folder = {}, defaultdict(list)
    if mask_pattern is None:
        without_suffixes = _index(masks, masks_root, suffix=_MASK_SUFFIX)
        for mask in masks:
            by_folder[_composed(name_in(mask, masks_root).rpartition("/")[0])].append(mask)
    by_name = {stem: exact.get(stem) or without_suffixes.get(stem, []) for stem in images}
    by_bare_name = _pair_by_bare_name(images, by_name, without_suffixes, masks_root)
    found, clashes, unused = {}, [], dict.fromkeys(masks)
    for stem, image in images.items():
        candidates = by_name[stem] or by_bare_name.get(stem, [])
        chosen = tuple(candidates or by_folder.get(stem, ()))
        if len(candidates) > 1 and not (_takes_several(mask_pattern) or _are_parts(candidates)):
            clashes.append(f"{image.name}: {', '.join(mask.name for mask in candidates)}")
        elif chosen:
            found[stem] = chosen if len(chosen) > 1 else chosen[0]
        for mask in chosen:
            unused.pop(mask, None)
    if clashes:
        more = f"\n  and {len(clashes) - _SHOWN} more" if len(clashes) > _SHOWN else ""
        raise DataError(
            f"{masks_root} has several masks for one image ({len(clashes)} images); keep one of them, or say which by "
            '--layout "mask_pattern={stem}_mask.png":\n  ' + "\n  ".join(clashes[:_SHOWN]) + more
        )
    return found, list(unused)


def _pair_by_bare_name(
    images: Mapping[str, Path], by_name: Mapping[str, Sequence[Path]], masks: Mapping[str, list[Path]], root: Path
) -> dict[str, list[Path]]:
    """The masks of images without one in `by_name`, by their stems without `_sat` or the like."""
    taken = {mask for each in by_name.values() for mask in each}
    claims = defaultdict(list)
    for stem in images:
        if not by_name[stem]:
            claims[_IMAGE_SUFFIX.sub("", stem)].append(stem)
    found = {}
    for bare, stems in claims.items():
        free = [mask for mask in masks.get(bare, []) if mask not in taken]
        if free and len(stems) > 1:
            both = " and ".join(images[stem].name for stem in stems)
            raise DataError(
                f"{root}: {free[0].name} could be the mask of {both}; keep one of them, or say which by "
                '--layout "image_pattern={stem}_sat.png" "mask_pattern={stem}_mask.png"'
            )
        found |= dict.fromkeys(stems, free)
    return found


def _takes_several(pattern: str | re.Pattern | None) -> bool:
    return isinstance(pattern, str) and "*" in pattern


def _are_parts(masks: Sequence[Path]) -> bool:
    """Whether names differ in their last number alone, and that does not count annotators."""
    stems = {bare_name(str(mask)) for mask in masks}
    bare = {_LAST_NUMBER.sub("", stem) for stem in stems}
    suffix = _MASK_SUFFIX.search(next(iter(bare)))
    return len(stems) == len(masks) and len(bare) == 1 and not (suffix and _ANNOTATOR.search(suffix[0]))


def explain_names(image: Path, masks: Sequence[Path], images_root: Path, masks_root: Path) -> str:
    """How the name of an image differs from that of the mask that is probably its own."""
    if not masks:
        return ""
    stem, where = without_suffix(image).name, name_in(image, images_root)
    for mask in masks:
        name, both = without_suffix(mask).name, f"{where} and {name_in(mask, masks_root)}"
        if name == stem:
            return f"{both} lie in folders of different names"
        if name.casefold() == stem.casefold():
            return f"{both} differ in letter case"
    for mask in masks:
        name, both = without_suffix(mask).name, f"{where} and {name_in(mask, masks_root)}"
        if stem in name:
            return f'{both}: --layout "mask_pattern={mask.name.replace(stem, "{stem}", 1)}" if they belong together'
        if name in stem:
            return f'{both}: --layout "image_pattern={image.name.replace(name, "{stem}", 1)}" if they belong together'
    near = max(masks, key=lambda mask: difflib.SequenceMatcher(None, without_suffix(mask).name, stem).ratio())
    naming = '--layout "mask_pattern={stem}_mask.png" says how masks are named'
    return f"nearest to {where} is {name_in(near, masks_root)}; {naming}"


def image_stems(images: Sequence[Path], root: Path, pattern: str | None = None) -> dict[str, Path]:
    """The images by the stem that their masks share: the path from `root` without suffix, or the pattern's part.

    Images that do not fit the pattern are left out. Two of the same stem are a DataError.
    """
    by_stem = _index(images, root, pattern=pattern)
    clashes = [", ".join(path.name for path in paths) for paths in by_stem.values() if len(paths) > 1]
    if clashes:
        raise DataError(f"{root} has several images of one name; keep one of them: " + "; ".join(clashes))
    return {stem: paths[0] for stem, paths in by_stem.items()}


def files_named(files: Sequence[Path], pattern: str | re.Pattern) -> list[Path]:
    """The files whose names fit a pattern with `{stem}`."""
    expression = _expression(pattern)
    return [path for path in files if expression.fullmatch(_composed(path.name))]


def masks_among(files: Sequence[Path]) -> set[Path]:
    """The masks that lie among their images: files named as another is, with a mask's suffix."""
    stems = {path: bare_name(path.name) for path in files}
    images = {*stems.values(), *(_IMAGE_SUFFIX.sub("", stem) for stem in stems.values())}
    bare = {path: _MASK_SUFFIX.sub("", stem) for path, stem in stems.items()}
    return {path for path, stem in stems.items() if bare[path] != stem and bare[path] in images}


def _index(
    paths: Sequence[Path], root: Path, *, pattern: str | re.Pattern | None = None, suffix: re.Pattern | None = None
) -> dict[str, list[Path]]:
    """The paths by stem; those that do not fit the pattern are left out."""
    by_stem = defaultdict(list)
    expression = None if pattern is None else _expression(pattern)
    for path in paths:
        if expression is None:
            stem = _composed(bare_name(name_in(path, root)))
            by_stem[suffix.sub("", stem) if suffix else stem].append(path)
        elif match := expression.fullmatch(_composed(path.name)):
            by_stem[_composed(path.relative_to(root).with_name(match["stem"]).as_posix())].append(path)
    return dict(by_stem)


def _expression(pattern: str | re.Pattern) -> re.Pattern:
    if isinstance(pattern, re.Pattern):
        return pattern
    escaped = re.escape(_composed(pattern)).replace(re.escape("{stem}"), "(?P<stem>.+)")
    return re.compile(escaped.replace(re.escape("*"), ".*"), re.IGNORECASE | re.DOTALL)


def _composed(text: str) -> str:
    """Accents in one form: a Mac writes letter and accent as two characters where others write one."""
    return unicodedata.normalize("NFC", text)
