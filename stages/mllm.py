"""Asking a multimodal model that some server offers: many questions at once, each answer held against its question.

The protocol is the chat completions of OpenAI, with a JSON schema as `response_format`, which vLLM, SGLang, llama.cpp
and the paid services speak. The client is aiohttp: of the Python clients it costs least a request
(docs/benchmarks.md), and retries are better ours, since they are counted against a row.

What can happen to a question:

    answered   JSON of the schema, with the question's key
    wrong      prose, broken JSON, another key, a score of 7, a refusal: asked again, `attempts` times in all
    failed     5xx, cut off, too slow: asked again after a pause, `failures` times; then the row is to blame if the
               server answers at all, and the server if it does not
    put off    429, 502, 503, connection refused: the endpoint rests as long as it asks for (Retry-After), and nothing
               is counted; when nothing was heard for `patience_s`, the run ends, and no row is charged

Instructions stand in the system message alone, the same for every question; the user's message holds data.
"""

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Generic

import aiohttp

from manifests.media import MediaError
from stages.mllm_answers import Answer, FormT, Question, Task, read
from stages.mllm_config import MllmConfig
from stages.mllm_errors import EndpointsDown, ExternalNotAllowed, MllmError, NoAnswer
from stages.mllm_places import Places
from stages.mllm_wire import Failed, Place, PutOff, content, pause_s, refusal, said_in

_PROBE_S: Final = 10.0
_AHEAD: Final = 8  # requests an endpoint that are made ready while all its slots are taken: pictures take their time

End = Answer[FormT] | MllmError | MediaError


@dataclass
class _Asked:
    """A question on its way."""

    number: int
    question: Question
    at_home: bool  # it may go to private addresses only
    wrong: list[MllmError] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


class Mllm:
    """A client of the endpoints in a config; between two calls of `ask` it holds nothing open.

    Raises:
        MllmSettingError: a variable that should hold a secret key is not set.
    """

    def __init__(self, config: MllmConfig) -> None:
        self.config = config
        self._secrets = [endpoint.secret() for endpoint in config.endpoints]

    def ask(self, task: Task[FormT], questions: Sequence[Question]) -> list[End[FormT]]:
        """Ask all questions, as many at once as there are slots; give for each its answer, or why there is none.

        Raises:
            EndpointsDown: no endpoint answers, or lets us in; no question is to blame.
        """
        return asyncio.run(self._ask(task, questions))

    async def _ask(self, task: Task[FormT], questions: Sequence[Question]) -> list[End[FormT]]:
        config, now = self.config, time.monotonic()
        resolver = await Places.of(config.endpoints)
        places = [
            Place(endpoint, secret, resolver.is_private(endpoint), now, endpoint.slots or config.slots)
            for endpoint, secret in zip(config.endpoints, self._secrets, strict=True)
        ]
        connector = aiohttp.TCPConnector(limit=0, resolver=resolver)
        timeout = aiohttp.ClientTimeout(total=config.answer_timeout_s)
        # no proxies from the environment: they would see the frames
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as http:
            return await _Round(config, task, places, http).all(questions)


class _Round(Generic[FormT]):
    """Questions to their ends. A hand takes what waits, makes the request ready, and sends it when a slot is free."""

    def __init__(
        self, config: MllmConfig, task: Task[FormT], places: Sequence[Place], http: aiohttp.ClientSession
    ) -> None:
        self.config, self.task, self.places, self.http = config, task, places, http
        self.format = task.schema()
        self.ends: dict[int, End[FormT]] = {}
        self.open = 0  # questions without an end
        self.waiting: dict[bool, deque[_Asked]] = {False: deque(), True: deque()}  # by `at_home`
        self.news = asyncio.Condition()

    async def all(self, questions: Sequence[Question]) -> list[End[FormT]]:
        inside = any(place.private for place in self.places)
        for number, question in enumerate(questions):
            at_home = question.real_people and not self.config.allow_external
            if at_home and not inside:
                self.ends[number] = ExternalNotAllowed([place.endpoint.host for place in self.places])
            else:
                self.waiting[at_home].append(_Asked(number, question, at_home))
        self.open = len(questions) - len(self.ends)
        hands = [self._hand(place) for place in self.places for _ in range(min(place.slots + _AHEAD, self.open))]
        try:
            async with asyncio.TaskGroup() as group:
                for hand in hands:
                    group.create_task(hand)
        except ExceptionGroup as several:
            raise several.exceptions[0] from None
        return [self.ends[number] for number in range(len(questions))]

    async def _hand(self, place: Place) -> None:
        while (asked := await self._next(place)) is not None:
            try:
                answer = await self._once(place, asked)
                if answer is None:
                    await self._again(asked)
                    continue
                end: End[FormT] = answer
                place.well()
            except PutOff as put_off:
                self._put_off(place, asked, put_off)
                await self._again(asked)
                continue
            except Failed as failed:
                if await self._fails_again(place, asked, str(failed)):
                    await asyncio.sleep(pause_s(len(asked.failed)))
                    await self._again(asked)
                    continue
                end = NoAnswer(f"{len(asked.failed)} times: {'; '.join(dict.fromkeys(asked.failed))}")
            except MllmError as wrong:
                place.well()
                asked.wrong.append(wrong)
                if wrong.again and len(asked.wrong) < self.config.attempts:
                    await self._again(asked)
                    continue
                end = type(wrong)(f"{len(asked.wrong)} attempts: {' | '.join(map(str, asked.wrong))}")
            except MediaError as damaged:
                end = damaged
            self.ends[asked.number] = end
            self.open -= 1
            if not self.open:
                async with self.news:
                    self.news.notify_all()

    async def _next(self, place: Place) -> _Asked | None:
        """Wait until the endpoint does not rest, and a question waits that may go there; None once all have ended."""
        async with self.news:
            while self.open:
                if (rest_s := place.rests_s) > 0:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(rest_s):
                            await self.news.wait_for(lambda: not self.open)
                elif place.private and self.waiting[True]:
                    return self.waiting[True].popleft()
                elif self.waiting[False]:
                    return self.waiting[False].popleft()
                else:
                    await self.news.wait()
        return None

    async def _again(self, asked: _Asked) -> None:
        async with self.news:
            self.waiting[asked.at_home].append(asked)
            self.news.notify_all()  # one alone might be a hand that may not take it

    async def _once(self, place: Place, asked: _Asked) -> Answer[FormT] | None:
        """Ask a question once; None if the endpoint has begun to rest while the request was made ready."""
        body = await asyncio.to_thread(self._body, asked)
        async with place.free:
            return None if place.rests_s > 0 else await self._sent(place, asked, body)

    async def _sent(self, place: Place, asked: _Asked, body: bytes) -> Answer[FormT]:
        host = place.endpoint.host
        try:
            # a redirect would take the pictures to an address that nobody looked at
            async with self.http.post(
                f"{place.endpoint.url}/chat/completions", data=body, headers=place.headers, allow_redirects=False
            ) as response:
                got = await content(response, place)
        except aiohttp.ClientConnectorError as error:
            why = error.strerror or "no address"
            raise PutOff(f"{host}:{place.endpoint.port} cannot be reached ({why})") from None
        except TimeoutError:
            raise Failed(f"{host} gave no answer in {self.config.answer_timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Failed(f"{host} broke off ({type(error).__name__})") from None
        if response.status == 200:
            try:
                return read(self.task, asked.question.key, json.loads(got), self.config.model, len(asked.wrong) + 1)
            except (ValueError, LookupError, TypeError, AttributeError):
                raise Failed(f"{host} sent no chat completion: {said_in(got)}") from None
        raise refusal(response, said_in(got), host)

    def _body(self, asked: _Asked) -> bytes:
        """Return the request; called in a thread, since it opens pictures."""
        options = dict(self.config.options)
        if asked.wrong:  # the same words would be answered with the same ones
            options["seed"] = len(asked.wrong)
            if isinstance(warmth := options.get("temperature"), int | float):
                options["temperature"] = max(warmth, 0.4)
        messages = [
            {"role": "system", "content": self.task.instructions},
            {"role": "user", "content": list(asked.question.show())},
        ]
        form = self.task.schema(asked.question.key) if self.config.key_in_schema else self.format
        body = {"model": self.config.model, "messages": messages, "response_format": form, **options}
        return json.dumps(body, allow_nan=False).encode()

    def _put_off(self, place: Place, asked: _Asked, put_off: PutOff) -> None:
        """Let the endpoint rest; give up if all have been silent for too long, or will be."""
        place.trouble(put_off.rest_s)
        places = self._may_take(asked)
        awake_s = min(each.rest_until_s for each in places)
        silent_s = max(awake_s, time.monotonic()) - max(each.heard_s for each in places)
        if silent_s > self.config.patience_s:
            raise EndpointsDown(
                f"no endpoint took a request for {silent_s:.0f} s or asks us to wait so long (patience_s is "
                f"{self.config.patience_s:g}): {put_off}; see to the server, or raise patience_s, and run again: "
                "nothing is lost"
            )

    async def _fails_again(self, place: Place, asked: _Asked, said: str) -> bool:
        """Note a failure, and say whether to ask again."""
        asked.failed.append(said)
        place.troubles += 1
        if place.troubles >= 3 * len(self.places):  # it is not the questions
            place.trouble()
        if len(asked.failed) < self.config.failures:
            return True
        for each in self._may_take(asked):  # something harmless tells a poisonous question from a dead server
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                timeout = aiohttp.ClientTimeout(total=_PROBE_S)
                url = f"{each.endpoint.url}/models"
                async with self.http.get(url, headers=each.headers, timeout=timeout, allow_redirects=False) as response:
                    if response.status < 500:
                        return False
        raise EndpointsDown(f"no endpoint answers any more: {said}; see to the server and run again: nothing is lost")

    def _may_take(self, asked: _Asked) -> list[Place]:
        return [place for place in self.places if place.private or not asked.at_home]
