"""The error tree. Every message says what was wrong, where, and the remedy.

The exit code of a class is what a command line returns when the error ends it.
"""


class SignalsError(Exception):
    """Base of every error that a user is meant to read as one line."""

    exit_code = 1


class ConfigError(SignalsError):
    """A parameter is unknown, of the wrong type, or impossible."""

    exit_code = 2


class DataError(SignalsError):
    """An input table cannot be used as it is."""

    exit_code = 3


class SessionError(DataError):
    """An as-of date is no session, or lies outside the data."""

    exit_code = 4


class LeakageError(SignalsError):
    """A computation used what was not yet known, or more than it declared."""

    exit_code = 5


class BundleError(SignalsError):
    """A bundle is incomplete, or its bytes do not match its digests."""

    exit_code = 6


class GovernanceError(SignalsError):
    """A version may not be reviewed, promoted or served as asked."""

    exit_code = 7


class StorageError(SignalsError):
    """The disk refused: full, read-only, or locked by another process."""

    exit_code = 8


class ConvergenceError(SignalsError):
    """A solver ended without a solution that its own check accepts."""

    exit_code = 10
