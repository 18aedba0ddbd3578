"""The root of all errors that a user can mend: the commands print their message as one line and no traceback."""


class UserError(Exception):
    """The message says what was found, what was wanted, and what to do."""

    exit_code = 2
