"""Which mask belongs to which image, by their names."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import DataError
from ..images.names import without_suffix

_MASK_SUFFIX = re.compile(
    r"[-_. ]?(masks?|labels?|gt|ground[-_]?truth|seg|segmentation|annotations?|vessels?|manual\d?"
    r"|(1st|2nd)[-_]?(ho|manual)|ah|fov|valid)$",
    re.IGNORECASE,
)
_IMAGE_SUFFIX = re.compile(r"[-_. ](sat|images?|img|rgb|training|test|orig|original)$", re.IGNORECASE)


def pair_by_name(
    images: Mapping[str, Path], masks: Sequence[Path], masks_root: Path, mask_pattern: str | None = None
) -> tuple[dict[str, Path], list[Path]]:
    """Find the mask of each image.

    Without a pattern, a mask has the image's own stem, or that with a suffix such as `_mask` or `_1stHO`, or both
    share what is left when `_sat` and `_mask` are taken off. With a pattern, it has exactly that name.

    Args:
        images: Path by stem, as `image_stems` gives it.
        masks: Candidates.
        masks_root: The folder that their sub-folders are counted from.
        mask_pattern: The name of a mask, with `{stem}` for the image's.

    Returns:
        The mask by stem, for images that have one; and the masks that belong to no image.

    Raises:
        DataError: An image has several masks.
    """
    if mask_pattern is not None:
        rungs = [_index(masks, masks_root, pattern=mask_pattern)]
    else:
        rungs = [_index(masks, masks_root), _index(masks, masks_root, suffix=_MASK_SUFFIX)]
    found, clashes, unused = {}, [], dict.fromkeys(masks)
    for stem, image in images.items():
        candidates = next((rung[stem] for rung in rungs if stem in rung), [])
        if not candidates and mask_pattern is None:
            candidates = rungs[-1].get(_IMAGE_SUFFIX.sub("", stem), [])
        if len(candidates) > 1:
            clashes.append(f"{image.name}: {', '.join(mask.name for mask in candidates)}")
        elif candidates:
            found[stem] = candidates[0]
        for mask in candidates:
            unused.pop(mask, None)
    if clashes:
        raise DataError(
            f"{masks_root} has several masks for one image; keep one of them, or say which by "
            '--layout "mask_pattern={stem}_mask.png":\n  ' + "\n  ".join(clashes)
        )
    return found, list(unused)


def image_stems(images: Sequence[Path], root: Path, pattern: str | None = None) -> dict[str, Path]:
    """The images by the stem that their masks share: the path from `root` without suffix, or the pattern's part.

    Images that do not fit the pattern are left out.

    Raises:
        DataError: Two images have the same stem.
    """
    by_stem = _index(images, root, pattern=pattern)
    clashes = [", ".join(path.name for path in paths) for paths in by_stem.values() if len(paths) > 1]
    if clashes:
        raise DataError(f"{root} has several images of one name; keep one of them: " + "; ".join(clashes))
    return {stem: paths[0] for stem, paths in by_stem.items()}


def masks_among(files: Sequence[Path]) -> set[Path]:
    """The masks that lie among their images: files named as another is, with a mask's suffix."""
    stems = {path: without_suffix(path).name for path in files}
    images = {*stems.values(), *(_IMAGE_SUFFIX.sub("", stem) for stem in stems.values())}
    bare = {path: _MASK_SUFFIX.sub("", stem) for path, stem in stems.items()}
    return {path for path, stem in stems.items() if bare[path] != stem and bare[path] in images}


def _index(
    paths: Sequence[Path], root: Path, *, pattern: str | None = None, suffix: re.Pattern | None = None
) -> dict[str, list[Path]]:
    """The paths by stem; those that do not fit the pattern are left out."""
    by_stem = defaultdict(list)
    expression = None if pattern is None else _expression(_composed(pattern))
    for path in paths:
        relative = path.relative_to(root)
        if expression is None:
            stem = _composed(without_suffix(relative).as_posix())
            by_stem[suffix.sub("", stem) if suffix else stem].append(path)
        elif match := expression.fullmatch(_composed(relative.name)):
            by_stem[_composed(relative.with_name(match["stem"]).as_posix())].append(path)
    return dict(by_stem)


def _composed(text: str) -> str:
    """Accents in one form: a Mac writes letter and accent as two characters where others write one."""
    return unicodedata.normalize("NFC", text)


def _expression(pattern: str) -> re.Pattern:
    escaped = re.escape(pattern).replace(re.escape("{stem}"), "(?P<stem>.+)").replace(re.escape("*"), ".*")
    return re.compile(escaped, re.IGNORECASE | re.DOTALL)
