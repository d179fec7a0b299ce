"""Fields of settings that say what they are: a flag's help is its field's."""

from dataclasses import field


def option(default, text: str):
    """A field of a settings dataclass with its help; a list is its default's own copy."""
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": text})
    return field(default=default, metadata={"help": text})
