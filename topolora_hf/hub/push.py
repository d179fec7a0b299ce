"""From a run directory to a Hub repository: an adapter that explains itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..adapter_format.settings import SETTINGS_FILE
from .model_card import ADAPTER_PLACE

CARD = "README.md"
ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json", SETTINGS_FILE, CARD)
# Of a run directory. All else there (settings with local paths, checkpoints) stays where it is.
RESULTS = ("metrics.json", "per_image.csv", "history.csv", "curves.png", "samples.png", "best_and_worst.png")
RESULTS += ("precision_recall.png", "reliability.png", "score_distribution.png")
_CAPTIONS = {
    "samples.png": "Images, their masks and what the adapter finds",
    "curves.png": "Loss and validation scores while training",
}


class PushError(OSError):
    """The Hub did not take it; what was to be pushed is unchanged."""

    __module__ = "topolora_hf"  # wherever the file lies


def push_adapter(
    directory: str | Path,
    repo_id: str | None = None,
    private: bool = False,
    token: str | None = None,
    commit_message: str = "Upload adapter",
) -> str:
    """Publish an adapter with its card in one commit; pushing again updates it. Return the repository's address.

    From a run directory the scores of every image and the pictures go along, in `results/`.

    Args:
        directory: A run directory, or the `adapter` folder of one.
        repo_id: `"org/name"`, or a name below the user's own; by default the run directory's name.
        private: Make a new repository private; an existing one stays as it is.
        token: In place of the one of `hf auth login` or HF_TOKEN. It is written nowhere.
        commit_message: First line of the commit.

    Raises:
        FileNotFoundError: The directory holds no complete adapter.
        PushError: Nobody is logged in, or the Hub refused or could not be reached; the message says how to push again.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

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
    contents = {name: adapter / name for name in ADAPTER_FILES}
    contents |= {f"results/{name}": directory / name for name in results}
    contents[CARD] = _addressed_card(adapter / CARD, repo_id, results).encode()
    operations = [CommitOperationAdd(path, content) for path, content in contents.items()]
    with _push_errors(directory, repo_id, token):
        commit = HfApi(token=token).create_commit(repo_id, operations, commit_message=commit_message)
    return str(commit.repo_url)


def open_repository(name: str, private: bool = False, token: str | None = None, directory: Path | None = None) -> str:
    """Create a repository if there is none, or raise PushError; return its full id, with the owner's name."""
    from huggingface_hub import HfApi

    with _push_errors(directory, name, token):
        return HfApi(token=token).create_repo(name, private=private, exist_ok=True).repo_id


def _addressed_card(file: Path, repo_id: str, results: list[str]) -> str:
    from huggingface_hub import ModelCard

    card = ModelCard.load(file)
    card.data.model_name = repo_id.split("/")[-1]
    card.text = card.text.replace(ADAPTER_PLACE, repo_id)
    pictures = [f"![{caption}](results/{name})" for name, caption in _CAPTIONS.items() if name in results]
    if pictures:
        card.text += "\n\n## Pictures\n\n" + "\n\n".join(pictures) + "\n"
    return str(card)


@contextmanager
def _push_errors(directory: Path | None, repo_id: str, token: str | None) -> Iterator[None]:
    """Turn what the Hub's client raises into a `PushError` that says what to do."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    try:
        yield
    except (OSError, httpx2.HTTPError) as error:
        status = getattr(error.response, "status_code", None) if isinstance(error, HfHubHTTPError) else None
        advice = "Try again when the Hub can be reached."
        if isinstance(error, LocalTokenNotFoundError) or status == 401:
            advice = "Log in with `hf auth login`, or set HF_TOKEN to a token that may write."
        elif status == 403:
            advice = "The token may not write there: use one that may, or another name."
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        if token:
            reason = reason.replace(token, "***")
        text = f"{repo_id} was not pushed to the Hub: {reason}. {advice}"
        if directory is not None:
            text += f" Nothing is lost: `topolora push --directory {directory} --hub_model_id {repo_id}` pushes again."
        raise PushError(text) from error
