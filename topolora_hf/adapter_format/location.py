"""Where an adapter's files lie: in a directory, or on the Hub."""

from pathlib import Path

import httpx2
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME

from .checks import check_adapter_files


def complete_directory(name_or_path: str | Path, **hub_options) -> str:
    """Where all of an adapter's files lie together, checked, whether they came from a directory or from the Hub."""
    find_file(name_or_path, SAFETENSORS_WEIGHTS_NAME, **hub_options)
    directory = Path(find_file(name_or_path, CONFIG_NAME, **hub_options)).parent
    check_adapter_files(directory)
    return str(directory)


def find_file(name_or_path: str | Path, name: str, **hub_options) -> str:
    """The path of one file of an adapter, downloaded where it lies on the Hub.

    Raises:
        FileNotFoundError: there is no such adapter, revision or file.
        OSError: the Hub cannot be reached, or the file did not arrive whole.
    """
    directory = Path(name_or_path)
    if directory.is_dir():
        if not (directory / name).is_file():
            raise FileNotFoundError(f"{directory} holds no {name}: it is not an adapter directory of topolora_hf")
        return str(directory / name)
    nothing_there = f"no adapter at {name_or_path}: expected a directory or a Hub id such as org/name"
    if directory.exists() or str(name_or_path).count("/") != 1:
        raise FileNotFoundError(nothing_there)
    try:
        return hf_hub_download(str(name_or_path), name, **hub_options)
    except HFValidationError as error:
        raise FileNotFoundError(nothing_there) from error
    except RevisionNotFoundError as error:
        revision = hub_options.get("revision")
        raise FileNotFoundError(f"the Hub repository {name_or_path} has no revision {revision!r}") from error
    except LocalEntryNotFoundError as error:
        raise OSError(
            f"{name_or_path} is no directory here, nor in the local cache, and the Hub cannot be reached: {error}"
        ) from error
    except EntryNotFoundError as error:
        raise FileNotFoundError(
            f"the Hub repository {name_or_path} holds no {name}: not an adapter of topolora_hf"
        ) from error
    except (OSError, httpx2.HTTPError) as error:
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        if status == 401 or isinstance(error, RepositoryNotFoundError):  # the Hub does not tell a stranger which
            raise FileNotFoundError(
                f"no repository {name_or_path} on the Hub that you may read: check the name; for a private one log in "
                "with `hf auth login`, or give token"
            ) from error
        raise OSError(
            f"{name} of the Hub repository {name_or_path} did not arrive whole, try again: {error}"
        ) from error
