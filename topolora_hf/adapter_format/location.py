"""Where an adapter's files lie: in a directory, or on the Hub."""

from pathlib import Path

from .names import EMBEDDED


def find_file(
    name_or_path: str | Path,
    name: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> str:
    """Give the path of one file of an adapter or network. A file on the Hub is downloaded.

    The keywords are `hf_hub_download`'s. Whoever takes `**hub_options` hands them on to here, so that a keyword that
    would do nothing is a TypeError for a directory too.

    Raises:
        FileNotFoundError: there is no such directory, repository, revision or file.
        OSError: the Hub cannot be reached, or the file did not arrive whole.
    """
    directory = Path(name_or_path)
    if directory.is_dir():
        if not (directory / name).is_file():
            raise FileNotFoundError(_not_in(directory, name))
        return str(directory / name)
    if directory.exists() or str(name_or_path).count("/") != 1 or str(name_or_path) in EMBEDDED:
        raise FileNotFoundError(_nothing_at(name_or_path))
    given = {"revision": revision, "token": token, "cache_dir": cache_dir}
    downloading = {"local_files_only": local_files_only, "force_download": force_download}
    return _download(str(name_or_path), name, {**given, **downloading})


def _download(repository: str, name: str, hub_options: dict) -> str:
    import httpx2
    from huggingface_hub import errors, hf_hub_download

    try:
        return hf_hub_download(repository, name, **hub_options)
    except errors.HFValidationError as error:
        raise FileNotFoundError(_nothing_at(repository)) from error
    except errors.RevisionNotFoundError as error:
        revision = hub_options.get("revision")
        raise FileNotFoundError(f"the Hub repository {repository} has no revision {revision!r}") from error
    except errors.LocalEntryNotFoundError as error:
        raise OSError(
            f"{repository} is no directory here, nor in the local cache, and the Hub cannot be reached: {error}"
        ) from error
    except errors.EntryNotFoundError as error:
        raise FileNotFoundError(_not_in(f"the Hub repository {repository}", name)) from error
    except (OSError, httpx2.HTTPError) as error:
        status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
        if status == 401 or isinstance(error, errors.RepositoryNotFoundError):  # the Hub does not tell a stranger which
            raise FileNotFoundError(
                f"no repository {repository} on the Hub that you may read: check the name; for a private one log in "
                "with `hf auth login`, or give token"
            ) from error
        raise OSError(f"{name} of the Hub repository {repository} did not arrive whole, try again: {error}") from error


def _not_in(place: str | Path, name: str) -> str:
    return f"{place} holds no {name}: it is no adapter of topolora_hf, nor a network, which has a config.json"


def _nothing_at(name: str | Path) -> str:
    there = f"{name} is a file of another kind" if Path(name).is_file() else f"nothing at {name}"
    return (
        f"{there}: expected a directory, Meta's file (.pth), a Hub id (such as facebook/sam-vit-base) or "
        f"one of {', '.join(EMBEDDED)}"
    )
