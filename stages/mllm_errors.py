"""Why a question to an MLLM has no answer that counts. The class's name is the reason in the ledger."""

from collections.abc import Sequence
from typing import ClassVar

from manifests.errors import RootError, UserError


class MllmError(Exception):
    """One question came to nothing; its row is quarantined, and never scored."""

    again: ClassVar[bool] = False  # another attempt may well do better


class NotJson(MllmError):
    """Prose, or broken JSON."""

    again = True


class NotAnAnswer(MllmError):
    """JSON, but not of the schema: a field is missing or too many, or a score is out of range."""

    again = True


class WrongKey(MllmError):
    """An answer to some other question, or to none."""

    again = True


class NamesIdentity(MllmError):
    """A text that may say only what somebody does says who it is, or what it looks like."""

    again = True


class CutShort(MllmError):
    """The answer reached the limit of tokens before its end."""

    again = True


class Refused(MllmError):
    """The model, or what stands guard before it, would not answer."""

    again = True


class BadRequest(MllmError):
    """The server says that the request itself is at fault: too many pictures, too long, an unknown field."""


class NoAnswer(MllmError):
    """The server fails at this question time and again, and is well otherwise."""


class ExternalNotAllowed(MllmError):
    """Frames that may show real people, and no endpoint but such as lie outside; nothing was sent."""

    def __init__(self, hosts: Sequence[str]) -> None:
        super().__init__(
            f"its frames may show real people, and {', '.join(sorted(set(hosts)))} lies outside this machine and its "
            "private network: say `allow_external: true` if that is allowed, or name an endpoint inside"
        )


class EndpointsDown(RootError):
    """No endpoint answers, or lets us in: the run ends, since no row is to blame and every further one would fail.

    A `RootError` to the worker: what all rows hang on does not answer.
    """

    exit_code = 1


class MllmSettingError(UserError):
    """Something that the client needs is not there, such as the variable with the secret key."""
