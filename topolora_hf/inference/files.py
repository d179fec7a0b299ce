"""Which files are images, and what the results of each are called."""

from collections import Counter
from collections.abc import Sequence
from glob import glob
from pathlib import Path

from ..data import IMAGE_SUFFIXES, DataError


def find_images(patterns: Sequence[str | Path]) -> list[Path]:
    """Image files from files, folders (not their sub-folders) and glob patterns, each once, in order.

    Raises:
        DataError: when a path does not exist, or nothing that it names is an image.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if _looks_like_an_image(file))
        elif path.is_file():
            files = [path]
        else:
            files = sorted(file for file in map(Path, glob(str(pattern), recursive=True)) if _looks_like_an_image(file))
        if not files:
            raise DataError(
                f"no images at {pattern}: expected a file, a folder or a glob of {', '.join(sorted(IMAGE_SUFFIXES))}"
            )
        found.update(dict.fromkeys(files))
    return list(found)


def _looks_like_an_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".") and file.is_file()


def output_names(files: Sequence[Path]) -> list[str]:
    """Stems; where two are equal, whole names, and where those are too, an error: no result overwrites another."""
    stems, names = Counter(file.stem for file in files), Counter(file.name for file in files)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise DataError(f"several images of the same name would overwrite each other's masks: {', '.join(twice)}")
    return [file.stem if stems[file.stem] == 1 else file.name for file in files]
