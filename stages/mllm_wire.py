"""An endpoint on the wire: what its answers mean for it, and for the question that it was asked."""

import asyncio
import email.utils
import time
from dataclasses import dataclass
from typing import Final

import aiohttp

from stages.mllm_answers import short
from stages.mllm_config import Endpoint
from stages.mllm_errors import BadRequest, EndpointsDown, Refused

MOST_BYTES: Final = 4 * 2**20  # of an answer
_PUT_OFF: Final = frozenset({429, 502, 503})
_SETTINGS: Final = frozenset({401, 403, 404, 405})  # no question is to blame
_GUARDED: Final = ("content_policy", "content_filter", "content_management")  # in the body of a refusal by status 400
_PAUSE_S, _LONGEST_PAUSE_S, _LONGEST_WISH_S = 0.5, 30.0, 10**6


class PutOff(Exception):
    """The endpoint is busy, or not there: `rest_s` is how long it asks for, if it does."""

    def __init__(self, said: str, rest_s: float | None = None) -> None:
        super().__init__(said)
        self.rest_s = rest_s


class Failed(Exception):
    """A request came to nothing, and it is not known whose fault it is."""


@dataclass
class Place:
    """An endpoint while questions are asked."""

    endpoint: Endpoint
    secret: str | None
    private: bool
    heard_s: float
    slots: int
    rest_until_s: float = 0.0
    troubles: int = 0  # in a row

    def __post_init__(self) -> None:
        self.free = asyncio.Semaphore(self.slots)

    @property
    def rests_s(self) -> float:
        """For how long from now it wants no request; 0 or less if it takes them."""
        return self.rest_until_s - time.monotonic()

    @property
    def headers(self) -> dict[str, str]:
        """Of every request."""
        said = {"Content-Type": "application/json"}
        return said if self.secret is None else said | {"Authorization": f"Bearer {self.secret}"}

    def trouble(self, rest_s: float | None = None) -> None:
        """Rest: as long as it asks for, or longer each time; the many hands that meet one trouble count once."""
        now = time.monotonic()
        if now >= self.rest_until_s:
            self.troubles += 1
        self.rest_until_s = max(self.rest_until_s, now + (pause_s(self.troubles) if rest_s is None else rest_s))

    def well(self) -> None:
        """Note that it answers."""
        self.heard_s, self.troubles = time.monotonic(), 0


def refusal(response: aiohttp.ClientResponse, said: str, host: str) -> Exception:
    """Return what a status other than 200 means."""
    status, line = response.status, f"{host} answered {response.status}: {said}"
    if status in _PUT_OFF:
        return PutOff(line, _retry_after_s(response.headers.get("Retry-After")))
    if status in _SETTINGS or 300 <= status < 400:
        return EndpointsDown(f"{line}; set url, model and key_env of this endpoint so that it lets us in")
    if status >= 500 or status == 408:
        return Failed(line)
    return Refused(line) if any(word in said for word in _GUARDED) else BadRequest(line)


async def content(response: aiohttp.ClientResponse, place: Place) -> bytes:
    """Read a body, within limits; the secret key, which some servers repeat, is taken out.

    Raises:
        Failed: it is too long.
    """
    got = bytearray()
    async for chunk in response.content.iter_any():
        got += chunk
        if len(got) > MOST_BYTES:
            raise Failed(f"{place.endpoint.host} sent more than {MOST_BYTES} bytes")
    return bytes(got) if place.secret is None else bytes(got).replace(place.secret.encode(), b"***")


def said_in(got: bytes) -> str:
    """Return the beginning of a body."""
    return short(got.decode("utf-8", "replace").replace("\0", "?"))


def pause_s(times: int) -> float:
    """Return how long to wait after so many troubles in a row."""
    return float(min(_PAUSE_S * 2 ** min(times - 1, 10), _LONGEST_PAUSE_S))


def _retry_after_s(said: str | None) -> float | None:
    """Return the seconds that a header Retry-After asks for (RFC 9110, 10.2.3): a number, or a date."""
    if said is None:
        return None
    if said.strip().isdecimal():
        return float(min(int(said), _LONGEST_WISH_S))
    try:
        return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - time.time())
    except ValueError:
        return None
