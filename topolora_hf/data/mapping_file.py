"""What a user says in a YAML or JSON file instead of on the command line."""

import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from .errors import DataError

SUFFIXES = (".yaml", ".yml", ".json")


def read_mapping(path: Path, option: str) -> dict:
    """Read the names of a file and what it says of each; a list of names says nothing of them (`{}`).

    Raises:
        DataError: The file cannot be read, holds anything else, or has a name twice. The message begins with `option`.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        is_json = path.suffix.lower() == ".json"
        content = json.loads(text, object_pairs_hook=_once) if is_json else yaml.load(text, Loader=NamesOnceLoader)
    except DataError as error:
        raise DataError(f"{option}: {path} {error}") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"{option}: {path} is neither key=value nor a YAML or JSON file ({error})") from error
    if isinstance(content, list) and content and all(isinstance(name, str) for name in content):
        return _once([(name, {}) for name in content])
    if not isinstance(content, dict) or not content:
        raise DataError(f"{option}: {path} must hold name: value, got {type(content).__name__}")
    return content


def _once(pairs: Sequence[tuple[str, object]]) -> dict:
    names = [name for name, _ in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(f"names {twice[0]} twice")
    return dict(pairs)


class NamesOnceLoader(yaml.SafeLoader):
    """PyYAML takes the last of two equal names; this refuses them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        _once([(key.value, None) for key, _ in node.value if key.tag == "tag:yaml.org,2002:str"])
        return super().construct_mapping(node, deep)
