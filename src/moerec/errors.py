"""The errors that a user can cause and mend; the command line prints them as one line and exits with 2."""


class MoerecError(Exception):
    """Base of every error whose message says what is wrong, where, and what to do."""


class ConfigError(MoerecError):
    """A recipe or a configuration is contradictory, misspelt or of the wrong type."""


class DatasetError(MoerecError):
    """A data set or a source file is missing, damaged or not what it claims to be."""


class CheckpointError(MoerecError):
    """A checkpoint or a saved model is missing, incomplete or of another recipe."""


class MissingExtraError(MoerecError):
    """An optional library is needed; the message names the extra that brings it."""

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the library '{library}'; install it with: pip install 'moerec[{extra}]'")
