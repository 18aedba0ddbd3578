"""What is asked of an MLLM, and what counts as an answer to it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from stages.mllm_errors import CutShort, MllmError, NotAnAnswer, NotJson, Refused, WrongKey

_SHOWN: Final = 400  # characters of an answer that an error cites
Part = dict[str, Any]


class KeyedAnswer(BaseModel):
    """Base of every form: an answer carries the key of its question."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    key: str


FormT = TypeVar("FormT", bound=KeyedAnswer)


@dataclass(frozen=True)
class Task(Generic[FormT]):
    """What is asked of every question alike: the system message, and the form of the answer.

    Attributes:
        name: Of the schema: letters, digits and _.
        instructions: The system message, word for word.
        form: The answer's form.
        objection: Says what is wrong with an answer of that form, or None.
    """

    name: str
    instructions: str
    form: type[FormT]
    objection: Callable[[FormT], MllmError | None] = field(default=lambda _: None)

    def schema(self, key: str | None = None) -> dict[str, Any]:
        """Return `response_format`; with a key, such that an answer can carry no other."""
        schema = self.form.model_json_schema()
        if key is not None:
            schema["properties"] = schema["properties"] | {"key": {"type": "string", "enum": [key]}}
        return {"type": "json_schema", "json_schema": {"name": self.name, "schema": schema, "strict": True}}


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        key: What its answer must carry.
        show: Gives what the user's message holds, in OpenAI's parts; called in a thread, when it is sent.
        real_people: It shows what may be real people: see `MllmConfig.allow_external`.
    """

    key: str
    show: Callable[[], Sequence[Part]]
    real_people: bool = False


@dataclass(frozen=True)
class Answer(Generic[FormT]):
    """What came back: checked, as it was written, who says that it wrote it, and in which attempt (from 1)."""

    fields: FormT
    raw: str
    model: str
    attempt: int


def words(text: str) -> Part:
    """Return a text as a part of a message."""
    return {"type": "text", "text": text}


def read(task: Task[FormT], key: str, body: Mapping[str, Any], model: str, attempt: int) -> Answer[FormT]:
    """Hold a chat completion against the question that it should answer.

    Raises:
        MllmError: it does not count.
        LookupError, TypeError: it is no chat completion.
    """
    choice = body["choices"][0]
    message, finish = choice["message"], choice.get("finish_reason")
    raw = _clean(message.get("content") or "")
    if message.get("refusal") or finish == "content_filter":
        raise Refused(f"the model refused: {short(_clean(message.get('refusal') or raw or finish))}")
    if finish == "length":
        raise CutShort(f"the answer was cut at the limit of tokens (`options`): ...{raw[-_SHOWN:]}")
    try:
        given = json.loads(raw, object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise NotJson(f"the answer is no JSON ({error}): {short(raw)}") from None
    found = given.get("key") if isinstance(given, dict) else None
    if found != key:
        raise WrongKey(f"asked for {key}, answered for {short(repr(found))}")
    try:
        fields = task.form.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise NotAnAnswer(f"{'.'.join(map(str, first['loc']))}: {first['msg']}: {short(raw)}") from None
    objection = task.objection(fields)
    if objection is not None:
        raise objection
    by = body.get("model")
    return Answer(fields, raw, _clean(by) if isinstance(by, str) and by else model, attempt)


def short(said: str) -> str:
    """Return the beginning of what was said, on one line."""
    line = " ".join(said.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."


def _clean(said: str) -> str:
    """Return a text without halves of surrogate pairs and NUL, which JSON can say and no table can hold."""
    return said.encode("utf-8", "replace").decode().replace("\0", "?")


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field stands there twice")
    return found


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number")
