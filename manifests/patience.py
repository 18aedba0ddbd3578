"""Errors of a store that pass, and how long they are waited for.

Whatever lies under a URL is asked through here: an error that may pass (500, 502, 503 and SlowDown, a time-out, a
connection that was refused or broken off) is tried again with growing, jittered pauses until `patience_s` is over; one
that will not pass (403, 404, a bad name) is not. There is one such loop, and none inside another: drivers try a single
request three times within seconds, so that a part of a large object does not cost the whole, and leave the rest to it.

A root that was given up stays so in this process until it answers again: whatever ends the run then does not wait anew.
"""

import itertools
import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from manifests.errors import RootError

T = TypeVar("T")
PATIENCE_S: Final = 120.0
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 10.0
_PASSING_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_PASSING_CODES: Final = frozenset(
    {"InternalError", "SlowDown", "ServiceUnavailable", "RequestTimeout", "OperationAborted", "ThrottlingException",
     "ConditionalRequestConflict", "XAmzContentSHA256Mismatch"}
)  # fmt: skip
# by name, so that no driver need be installed: botocore's and aiohttp's words for what goes wrong on the wire
_PASSING_NAMES: Final = frozenset(
    {"HTTPClientError", "ConnectionError", "ClientConnectionError", "ClientPayloadError", "ServerTimeoutError",
     "ResponseParserError", "IncompleteReadError", "IncompleteRead", "ServiceRequestError", "ServiceResponseError",
     "HttpProcessingError"}
)  # fmt: skip
_LASTING_NAMES: Final = frozenset({"SSLError", "ClientSSLError", "InvalidURL"})
_LASTING: Final = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError)
_PASSING_WORDS: Final = re.compile(  # of Lance, whose errors carry neither a number nor a class
    r"status code: (408|425|429|500|502|503|504)|HTTP error|error sending request|timed? ?out|SlowDown"
    r"|connection (reset|closed|refused|aborted)|error decoding response body|incomplete message",
    re.IGNORECASE,
)
_given_up: set[str] = set()


class StoreDown(RootError):
    """The store under a root does not answer, or answers with errors; the same command goes on when it does again."""

    exit_code = 1

    def __init__(self, root: str, error: BaseException, tried_s: float) -> None:
        super().__init__(
            f"{root} could not be reached for {tried_s:.0f} s ({told(error)}); what was finished is safe: see that the "
            "store answers from here, and run the same command again"
        )


def patience_s() -> float:
    """Return for how long errors that may pass are waited for, seconds: BODYDOUBLE_PATIENCE_S, or 120.

    Raises:
        RootError: it is no number.
    """
    given = os.environ.get("BODYDOUBLE_PATIENCE_S", "")
    try:
        seconds = float(given or PATIENCE_S)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise RootError(f"BODYDOUBLE_PATIENCE_S is {given!r}; wanted a number of seconds, for example 120")
    return seconds


def patience_with(root: str) -> float:
    """Return for how long errors of this root are waited for, seconds: not at all once it was given up."""
    return 0.0 if root in _given_up else patience_s()


def give_up(root: str) -> None:
    """Wait for this root no more, until it answers again."""
    _given_up.add(root)


def patiently(action: Callable[[], T], root: str, limit_s: float) -> T:
    """Return what `action` gives, trying again while its errors are of the kind that passes.

    `action` is called at least once, and not again when `limit_s` is over. It must be harmless to repeat, or look for
    what an earlier try, whose answer was lost, has left.

    Raises:
        StoreDown: such errors did not pass within `limit_s`.
    """
    began_s = time.monotonic()
    until_s = began_s + min(limit_s, patience_with(root))
    for pause_s in _pauses():
        try:
            result = action()
        except errors_of_drivers() as error:
            if not is_passing(error):
                raise
            if time.monotonic() + pause_s > until_s:
                if limit_s:  # who tries once and comes again gives nothing up
                    give_up(root)
                raise StoreDown(root, error, time.monotonic() - began_s) from error
            time.sleep(pause_s)
        else:
            _given_up.discard(root)
            return result
    raise AssertionError("there is no last pause")


def _pauses() -> Iterator[float]:
    """Give growing pauses, drawn anew each time, so that many workers do not all come back in the same moment."""
    for attempt in itertools.count():
        yield random.uniform(0.5, 1.0) * min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(attempt, 20))


def is_passing(error: BaseException) -> bool:
    """Say whether an error of a store is of the kind that passes."""
    for each in (error, error.__cause__):
        answer = getattr(each, "response", None)  # of botocore: what the server said counts, not what it was made into
        if isinstance(answer, dict):
            status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
            return status in _PASSING_STATUS or answer.get("Error", {}).get("Code") in _PASSING_CODES
    names = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, _LASTING) or names & _LASTING_NAMES:
        return False
    if isinstance(error, TimeoutError | ConnectionError) or names & _PASSING_NAMES:
        return True
    status = getattr(error, "code", None)  # of gcsfs
    return status in _PASSING_STATUS or bool(_PASSING_WORDS.search(str(error)))


def errors_of_drivers() -> tuple[type[Exception], ...]:
    """Return what a store may raise; with the bases of what s3fs, gcsfs and adlfs let through, if they are loaded."""
    names = (
        ("botocore.exceptions", "BotoCoreError"),
        ("botocore.exceptions", "ClientError"),
        ("aiohttp", "ClientError"),
        ("azure.core.exceptions", "AzureError"),
    )
    loaded = ((sys.modules.get(module), name) for module, name in names)
    return OSError, ValueError, *(getattr(module, name) for module, name in loaded if module is not None)


def told(error: BaseException) -> str:
    """Return what an engine or a driver says as one line: without places in its source, and without the answer's XML.

    The XML of a refusal repeats the request's signature and the id of the credentials.
    """
    text = str(error).split("<?xml")[0].split("<Error>")[0].strip()
    line = (text.splitlines() or [""])[0]
    return re.sub(r",? /\S+\.rs:\d+:\d+", "", line)[:300].rstrip(" :") or type(error).__name__
