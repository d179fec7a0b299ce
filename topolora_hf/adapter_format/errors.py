"""What does not fit."""


class AdapterMismatchError(RuntimeError):
    """An adapter's tensors are not those that its base expects."""

    __module__ = "topolora_hf"
