"""Names of bases: embedded ones, and how a base is called in what is published."""

from pathlib import Path

TINY = "topolora_hf/tiny"
TINY_REGIONS = "topolora_hf/tiny-regions"
TINY_RANDOM = "topolora_hf/tiny-random"
VIT_S_RANDOM = "topolora_hf/vit-s-random"
VIT_B_RANDOM = "topolora_hf/vit-b-random"
EMBEDDED = (TINY, TINY_REGIONS, TINY_RANDOM, VIT_S_RANDOM, VIT_B_RANDOM)


def full_base_name(name: str) -> str:
    """An embedded base's name may be short (`"tiny"`, `"vit-b-random"`); every other name stays."""
    return f"topolora_hf/{name}" if f"topolora_hf/{name}" in EMBEDDED else name


def check_base_name(name: str | Path) -> None:
    """A name without an owner is something here, or embedded: the Hub, which would be asked several times, has no such.

    Raises:
        FileNotFoundError: it is neither.
    """
    if "/" not in str(name) and not Path(name).exists():
        raise FileNotFoundError(
            f"no base {name} is here: expected a directory, Meta's file, a Hub id (such as facebook/sam-vit-base) "
            f"or one of {', '.join(EMBEDDED)}"
        )


def public_base_name(name_or_path: str) -> str:
    """A base's name as it may be published: a Hub id stays, of a local directory only the last part is kept."""
    is_hub_id = name_or_path in ("", *EMBEDDED) or (name_or_path.count("/") <= 1 and not Path(name_or_path).exists())
    return name_or_path if is_hub_id else Path(name_or_path).resolve().name
