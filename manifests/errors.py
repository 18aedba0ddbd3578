"""The root of all errors that a user can mend: the commands print their message as one line and no traceback."""

import errno
from typing import Final

_FULL: Final = ("no space left", "quota exceeded", "os error 28)", "os error 122)")


class UserError(Exception):
    """The message says what was found, what was wanted, and what to do."""

    exit_code = 2


class RootError(UserError):
    """A root cannot be used as it is: it is no folder, cannot be made, or no driver for its scheme is installed."""


class NoSpaceError(RootError):
    """The disk or the quota under a root is full; nothing is lost, and the same command goes on once there is space."""

    exit_code = 1

    def __init__(self, root: str) -> None:
        super().__init__(
            f"no space left under {root}; what was finished is safe: free some space and run the same command again"
        )


def is_full(error: OSError) -> bool:
    """Say whether a disk or a quota is full; Lance's errors carry no number, only the words of the system."""
    if error.errno is not None:
        return error.errno in {errno.ENOSPC, errno.EDQUOT}
    return any(words in str(error).lower() for words in _FULL)
