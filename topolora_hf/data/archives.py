"""Data sets as they are downloaded: archives unpacked once, into the user's cache, and never outside it."""

import gzip
import hashlib
import lzma
import os
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
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


def cached_folder(kind: str, name: str, key: object, fill: Callable[[Path], None]) -> Path:
    """Let `fill` make a folder of the cache, once for each key. No process ever sees half of it."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).hexdigest()
    target = cache_folder() / kind / f"{name}-{digest}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=target.parent, ignore_cleanup_errors=True) as work:
        fill(Path(work))
        try:
            os.rename(work, target)
        except OSError:
            if not target.is_dir():  # else another process was faster
                raise
    return target


def archive_stem(path: Path) -> str | None:
    """The name without its archive suffix; None if it has none.

    >>> archive_stem(Path("stare-images.tar.gz")), archive_stem(Path("im0001.ppm.gz"))
    ('stare-images', None)
    """
    suffix = next((suffix for suffix in ARCHIVE_SUFFIXES if path.name.lower().endswith(suffix)), None)
    return path.name[: -len(suffix)] if suffix else None


def unpack(archive: Path) -> Path:
    """Unpack a zip or tar file (also compressed by gzip, bzip2 or xz) into the cache, unless it is there already.

    Raises:
        DataError: The file is no such archive, is broken or encrypted, holds a member that would land elsewhere or is
            not a plain file, or unpacks to more than a hundred times its size (twice, if it lay in another archive) and
            more than 1 GiB, or to more than `$TOPOLORA_MAX_UNPACKED_GIB` if that is set.
    """
    if archive.suffix.lower() in UNREADABLE_ARCHIVE_SUFFIXES:
        raise DataError(f"{archive} is a {archive.suffix} archive, which cannot be read here: unpack it, or use zip")
    state = archive.stat()
    key = (str(archive.resolve()), state.st_size, state.st_mtime_ns)
    stem = archive_stem(archive) or archive.stem
    return cached_folder("archives", stem, key, lambda folder: _extract(archive, folder))


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
    children = sorted(parent.iterdir())
    folders = {child.name.lower(): child for child in children if child.is_dir()}
    archives = {stem.lower(): child for child in children if (stem := archive_stem(child))}
    if found := next((folders[name] for name in names if name in folders), None):
        return found
    packed = next((archives[name] for name in names if name in archives), None)
    return content_root(unpack(packed)) if packed else None


def _extract(archive: Path, folder: Path) -> None:
    limit = max_unpacked_bytes()
    if limit is None:
        is_inner = archive.is_relative_to(cache_folder() / "archives")
        limit = max(_LEAST_LIMIT, (_HIGHEST_INNER_RATIO if is_inner else _HIGHEST_RATIO) * archive.stat().st_size)
    left = limit
    try:
        for number, (name, content) in enumerate(_members(archive)):
            if number >= _MOST_MEMBERS:
                raise DataError(f"{archive} has more than {_MOST_MEMBERS:,} members")
            path = PurePosixPath(name.replace("\\", "/"))
            if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
                raise DataError(f"{archive} holds {name!r}, which would land outside the folder: not a safe archive")
            target = folder / path
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
    except (RuntimeError, OSError) as error:  # zipfile's for encryption and unknown compression; the disk's
        raise DataError(f"{archive} cannot be unpacked into {folder.parent}: {error}") from error


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
            if member.isfile():
                yield member.name, tar.extractfile(member)
            elif not member.isdir():
                raise DataError(f"{archive} holds a link or device ({member.name}); plain files are needed")
