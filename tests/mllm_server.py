"""A real HTTP server on loopback that speaks the chat completions of OpenAI, and misbehaves on demand.

What it does with a request is said by a function of the request and of how often its key has been asked; without one it
answers well after `latency_s`. It sees nothing: its scores are a digest of the key, so that a test knows them.
"""

import asyncio
import hashlib
import json
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

DIMENSIONS = (
    "imaging_quality", "motion_smoothness", "temporal_consistency", "appearance_consistency", "motion", "identity",
)  # fmt: skip
_KEY = re.compile(r"key: (\S+)")
Behaviour = Callable[["Asked"], Awaitable[web.StreamResponse | None]]


@dataclass(frozen=True)
class Asked:
    """One request: its body, its key, and how often that key was asked before."""

    body: dict[str, Any]
    key: str
    before: int
    request: web.Request


def score_of(key: str, dimension: str) -> int:
    """Return the score that the server gives, 1..5."""
    return 1 + hashlib.sha256(f"{key} {dimension}".encode()).digest()[0] % 5


def judged(key: str, **other: Any) -> dict[str, Any]:
    """Return the fields of a good answer, some of them replaced."""
    told: dict[str, Any] = {"key": key, "seen_source": "a", "seen_character": "b", "seen_pseudo": "c"}
    told |= {name: {"why": f"Why {name}.", "score": score_of(key, name)} for name in DIMENSIONS}
    return told | other


def completion(content: str | None, finish: str = "stop", **message: Any) -> dict[str, Any]:
    """Return a chat completion."""
    said = {"role": "assistant", "content": content, **message}
    return {"model": "sample-1", "choices": [{"index": 0, "message": said, "finish_reason": finish}]}


def says(content: str | None, finish: str = "stop", **message: Any) -> web.Response:
    """Return a response with a chat completion."""
    return web.json_response(completion(content, finish, **message))


@dataclass
class MllmServer:
    """Use as a context: the server runs in a thread of this process.

    Attributes:
        behave: Gives the response to a request; None for a good answer.
        latency_s: Until a good answer.
        well: Makes a good answer's fields of the key.
        keep: Whether requests are remembered in `asked`.
        wanted_port: 0 for any that is free.
    """

    behave: Behaviour | None = None
    latency_s: float = 0.0
    well: Callable[[str], dict[str, Any]] = judged
    keep: bool = True
    wanted_port: int = 0
    asked: list[Asked] = field(default_factory=list)
    times: Counter[str] = field(default_factory=Counter)
    flying: int = 0
    most_flying: int = 0

    @property
    def url(self) -> str:
        """Base of the API."""
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        self._loop, ready = asyncio.new_event_loop(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(20)
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive()

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve(ready))
        finally:
            self._loop.close()

    async def _serve(self, ready: threading.Event) -> None:
        app = web.Application(client_max_size=2**26)
        app.add_routes([web.post("/v1/chat/completions", self._answer)])
        app.add_routes([web.get(path, self._models) for path in ("/v1/models", "/health")])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.wanted_port, reuse_address=True)
        await site.start()
        self.port: int = runner.addresses[0][1]
        self._stop = asyncio.Event()
        ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"data": []})

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        key = key_of(body)
        asked = Asked(body, key, self.times[key], request)
        self.times[key] += 1
        if self.keep:
            self.asked.append(asked)
        self.flying += 1
        self.most_flying = max(self.most_flying, self.flying)
        try:
            given = None if self.behave is None else await self.behave(asked)
            if given is not None:
                return given
            await asyncio.sleep(self.latency_s)
            return says(json.dumps(self.well(key)))
        finally:
            self.flying -= 1


def key_of(body: dict[str, Any]) -> str:
    """Return the key that a request carries, from its user's message."""
    content = body["messages"][-1]["content"]
    found = [match for part in content if part["type"] == "text" for match in _KEY.findall(part["text"])]
    assert len(found) == 1, found
    return str(found[0])


if __name__ == "__main__":  # a process that a test may kill, with the arguments that vLLM's server has
    with MllmServer(latency_s=0.1, keep=False, wanted_port=int(sys.argv[sys.argv.index("--port") + 1])):
        signal.pause()
