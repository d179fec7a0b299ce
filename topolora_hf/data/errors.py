"""The one error that a user's own data can cause."""


class DataError(ValueError):
    """The data cannot be used as they are: the message names the files and says what is allowed."""

    __module__ = "topolora_hf"  # wherever the file lies
