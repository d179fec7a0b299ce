"""Data sets as they are downloaded: archives unpacked once, into the user's cache, and never outside it."""

import gzip
import hashlib
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from huggingface_hub.constants import HF_HOME

from .errors import DataError
from .images.limits import UNPACKED_VARIABLE, max_unpacked_bytes

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")

UNREADABLE_ARCHIVE_SUFFIXES = (".rar", ".7z")
_LEAST_LIMIT = 2**30  # bytes that any archive may unpack to
_HIGHEST_RATIO = 100  # beyond that, bytes unpacked for a byte packed: images are compressed already
_HIGHEST_INNER_RATIO = 2  # of an archive that lay in another
_MOST_MEMBERS = 1_000_000
_MOST_NAME_BYTES = 2**20  # tar keeps long names and attributes in members of their own, which are read whole
_CHUNK = 2**20
# A folder of this name is part of a layout, not the wrapper that many archives put around theirs.
_LAYOUT_NAMES = ("train", "training", "test", "testing", "validation", "valid", "val", "images", "image")
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError)


def cache_folder() -> Path:
    """Where unpacked data lie: `$TOPOLORA_CACHE`, by default `topolora_hf` in the Hugging Face home folder."""
    return Path(os.environ.get("TOPOLORA_CACHE") or Path(HF_HOME) / "topolora_hf").expanduser()


def archive_stem(path: Path) -> str | None:
    """The name without its archive suffix; None if it has none.

    >>> archive_stem(Path("stare-images.tar.gz")), archive_stem(Path("im0001.ppm.gz"))
    ('stare-images', None)
    """
    name = path.name.lower()
    suffix = max((suffix for suffix in ARCHIVE_SUFFIXES if name.endswith(suffix)), key=len, default=None)
    return path.name[: -len(suffix)] if suffix else None


def unpack(archive: Path) -> Path:
    """Unpack an archive into the cache, unless it is there already, and return the folder with its content.

    Args:
        archive: A zip or tar file (also compressed by gzip, bzip2 or xz).

    Returns:
        The folder; `content_root` finds what an archive wraps in a folder of its own.

    Raises:
        DataError: The file is no such archive, is broken or encrypted, holds a member that would land elsewhere or is
            not a plain file, or unpacks to more than a hundred times its size (twice, if it lay in another archive) and
            more than 1 GiB, or to more than `$TOPOLORA_MAX_UNPACKED_GIB` if that is set.
    """
    if archive.suffix.lower() in UNREADABLE_ARCHIVE_SUFFIXES:
        raise DataError(f"{archive} is a {archive.suffix} archive, which cannot be read here: unpack it, or use zip")
    state = archive.stat()
    key = hashlib.blake2b(repr((str(archive.resolve()), state.st_size, state.st_mtime_ns)).encode(), digest_size=8)
    target = cache_folder() / "archives" / f"{archive_stem(archive) or archive.stem}-{key.hexdigest()}"
    if not target.is_dir():
        with staging_folder(target) as staging:
            _extract(archive, staging)
    return target


@contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """A folder that becomes `target` when all went well: nobody ever sees half of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".partial-", dir=target.parent))
    try:
        yield work
        try:
            work.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was faster
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def content_root(folder: Path) -> Path:
    """The folder, or the one that everything in it is wrapped in."""
    while True:
        children = [child for child in folder.iterdir() if not child.name.startswith((".", "__MACOSX"))]
        if len(children) != 1 or not children[0].is_dir() or children[0].name.lower() in _LAYOUT_NAMES:
            return folder
        folder = children[0]


def find_folder(parent: Path, *names: str) -> Path | None:
    """The sub-folder of `parent` that has one of `names` (earlier ones first), in any letter case.

    A folder that is there only as an archive (`stare-images.tar`, `training.zip`) is unpacked.
    """
    children = {child.name.lower(): child for child in sorted(parent.iterdir()) if child.is_dir()}
    found = next((children[name] for name in names if name in children), None)
    if found:
        return found
    archives = {stem.lower(): child for child in sorted(parent.iterdir()) if (stem := archive_stem(child))}
    return next((content_root(unpack(archives[name])) for name in names if name in archives), None)


def _extract(archive: Path, folder: Path) -> None:
    left = limit = _limit(archive)
    try:
        for number, (name, content) in enumerate(_members(archive)):
            if number >= _MOST_MEMBERS:
                raise DataError(f"{archive} has more than {_MOST_MEMBERS:,} members")
            target = folder / _inside(name, archive)
            if target.name.startswith("._") or "__MACOSX" in target.parts:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with content, target.open("wb") as file:
                while chunk := content.read(_CHUNK):  # what a header says of the size is not to be trusted
                    left -= len(chunk)
                    if left < 0:
                        raise DataError(
                            f"{archive} ({archive.stat().st_size:,} bytes) unpacks to over {limit:,} bytes; if that is "
                            f"meant, unpack it yourself or set the environment variable {UNPACKED_VARIABLE}"
                        )
                    file.write(chunk)
    except _BROKEN as error:
        raise DataError(f"{archive} is not a whole zip or tar archive ({error})") from error
    except (RuntimeError, NotImplementedError) as error:  # zipfile's for encryption and unknown compression
        raise DataError(f"{archive} cannot be unpacked: {error}") from error
    except OSError as error:
        raise DataError(f"{archive} cannot be unpacked into {folder.parent}: {error}") from error


def _limit(archive: Path) -> int:
    """How many bytes an archive may unpack to."""
    given = max_unpacked_bytes()
    is_inner = archive.is_relative_to(cache_folder() / "archives")
    ratio = _HIGHEST_INNER_RATIO if is_inner else _HIGHEST_RATIO
    return max(_LEAST_LIMIT, ratio * archive.stat().st_size) if given is None else given


class _Header(tarfile.TarInfo):
    """A member's header; those that describe the next member are read whole, and must be short."""

    @classmethod
    def frombuf(cls, *args):
        header = super().frombuf(*args)
        if not header.isfile() and header.size > _MOST_NAME_BYTES:
            raise tarfile.ReadError(f"a header of {header.size:,} bytes")
        return header


def _members(archive: Path) -> Iterator[tuple[str, BinaryIO]]:
    """Name and opened content of every plain file."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise DataError(f"{archive} holds a link ({info.filename}); plain files are needed")
                if not info.is_dir():
                    yield info.filename, zipped.open(info)
        return
    with tarfile.open(archive, tarinfo=_Header) as tar:
        for member in tar:
            if not member.isfile() and not member.isdir():
                raise DataError(f"{archive} holds a link or device ({member.name}); plain files are needed")
            if member.isfile():
                yield member.name, tar.extractfile(member)


def _inside(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise DataError(f"{archive} holds {name!r}, which would be unpacked outside the folder: not a safe archive")
    return path
