"""From a run directory to a Hub repository: an adapter that explains itself."""

from pathlib import Path

import httpx2
from huggingface_hub import CommitOperationAdd, HfApi, ModelCard
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME

from ..adapter_format.settings import SETTINGS_FILE
from .model_card import ADAPTER_PLACE

CARD = "README.md"
ADAPTER_FILES = (SAFETENSORS_WEIGHTS_NAME, CONFIG_NAME, SETTINGS_FILE, CARD)
# Of a run directory; what else lies there (settings with local paths, checkpoints) stays where it is.
RESULTS = (
    "metrics.json",
    "per_image.csv",
    "history.csv",
    "curves.png",
    "samples.png",
    "best_and_worst.png",
    "precision_recall.png",
    "reliability.png",
    "score_distribution.png",
)
_CAPTIONS = {
    "samples.png": "Images, their masks and what the adapter finds",
    "curves.png": "Loss and validation scores while training",
}


class PushError(OSError):
    """The Hub did not take it; what was to be pushed is as it was."""

    __module__ = "topolora_hf"  # wherever the file lies


def push_adapter(
    directory: str | Path,
    repo_id: str | None = None,
    private: bool = False,
    token: str | None = None,
    commit_message: str = "Upload adapter",
) -> str:
    """Publishes an adapter in one commit; pushing again updates it.

    With the adapter go its card, which then names the repository, and from a run directory the scores of every image
    and the pictures, in `results/`.

    Args:
        directory: a run directory, or the `adapter` folder of one.
        repo_id: `"org/name"`, or a name below the user's own; by default the run directory's name.
        private: whether a new repository is one; one that exists keeps what it is.
        token: in place of the one that `hf auth login` or HF_TOKEN gives. It is written nowhere.
        commit_message: first line of the commit.

    Returns:
        The repository's address.

    Raises:
        FileNotFoundError: the directory holds no whole adapter.
        PushError: nobody is logged in, or the Hub refused or could not be reached; the message says how to push again.
    """
    directory = Path(directory)
    above = directory.resolve().parent
    if directory.resolve().name == "adapter" and (above / "metrics.json").is_file():
        directory = above
    adapter = directory / "adapter" if (directory / "adapter").is_dir() else directory
    missing = [name for name in ADAPTER_FILES if not (adapter / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{directory} holds no adapter to push: {', '.join(missing)} missing in {adapter}")
    repo_id = open_repository(repo_id or directory.resolve().name, private, token, directory)
    results = [name for name in RESULTS if (directory / name).is_file()]
    files = {name: adapter / name for name in ADAPTER_FILES if name != CARD}
    files |= {f"results/{name}": directory / name for name in results}
    operations = [CommitOperationAdd(path, str(file)) for path, file in files.items()]
    card = _addressed_card(adapter / CARD, repo_id, results)
    operations.append(CommitOperationAdd(CARD, card.encode()))
    try:
        commit = HfApi(token=token).create_commit(repo_id, operations, commit_message=commit_message)
    except (OSError, httpx2.HTTPError) as error:
        raise _push_error(error, directory, repo_id, token) from error
    return str(commit.repo_url)


def open_repository(name: str, private: bool = False, token: str | None = None, directory: Path | None = None) -> str:
    """Creates a repository where there is none yet; so a run can learn before it starts whether it may push.

    Returns:
        Its whole id, the owner's name included.

    Raises:
        PushError: as for `push_adapter`.
    """
    try:
        return HfApi(token=token).create_repo(name, private=private, exist_ok=True).repo_id
    except (OSError, httpx2.HTTPError) as error:
        raise _push_error(error, directory, name, token) from error


def _addressed_card(file: Path, repo_id: str, results: list[str]) -> str:
    card = ModelCard.load(file)
    card.data.model_name = repo_id.split("/")[-1]
    card.text = card.text.replace(ADAPTER_PLACE, repo_id)
    pictures = [f"![{caption}](results/{name})" for name, caption in _CAPTIONS.items() if name in results]
    if pictures:
        card.text += "\n\n## Pictures\n\n" + "\n\n".join(pictures) + "\n"
    return str(card)


def _push_error(error: Exception, directory: Path | None, repo_id: str, token: str | None) -> PushError:
    status = error.response.status_code if isinstance(error, HfHubHTTPError) and error.response is not None else None
    if isinstance(error, LocalTokenNotFoundError) or status == 401:
        advice = "Log in with `hf auth login`, or set HF_TOKEN to a token that may write."
    elif status == 403:
        advice = "The token may not write there: take one that may, or another name."
    else:
        advice = "Try again when the Hub can be reached."
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    if token:
        reason = reason.replace(token, "***")
    text = f"{repo_id} was not pushed to the Hub: {reason}. {advice}"
    if directory is not None:
        text += f" Nothing is lost: `topolora push --directory {directory} --hub_model_id {repo_id}` pushes again."
    return PushError(text)
