"""The three texts of `stages/prompt.py` by a multimodal model behind a server (see `stages/mllm.py`).

What a model wrote of a picture may repeat writing in it, so the third step hands both texts on as data, in JSON, in the
user's message. A motion text that says who moves, or what they look like, does not count, and is asked for again: it
may hold no word of a list. The third step is shown no picture, so nothing of the source can come in there.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Generic

from pydantic import AfterValidator, Field

from stages.mllm_answers import Answer, FormT, KeyedAnswer, Part, Question, Task, words
from stages.mllm_asking import PROMPTS, Asking, digests_of, instructions
from stages.mllm_config import MllmConfig
from stages.mllm_errors import MllmError, NamesIdentity
from stages.mllm_pictures import Sight, SightConfig
from stages.stage import Reject, Row, Stage, StageConfig

MOST_WORDS: Final = 60
_WORD: Final = re.compile(r"[a-z]+")


def _is_short(text: str) -> str:
    found = len(text.split())
    if not 1 <= found <= MOST_WORDS:
        raise ValueError(f"a text of {found} words, wanted 1 to {MOST_WORDS}")
    return text


Text = Annotated[str, AfterValidator(_is_short)]


class Motion(KeyedAnswer):
    """What somebody does."""

    motion: Text


class Appearance(KeyedAnswer):
    """What somebody looks like."""

    appearance: Text


class Fused(KeyedAnswer):
    """Both."""

    prompt: Text


def identity_words() -> frozenset[str]:
    """Return the words that say who somebody is or what they look like, from `stages/prompts/identity_words.txt`."""
    lines = Path(PROMPTS, "identity_words.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


def names_identity(text: str) -> MllmError | None:
    """Return what is wrong with a text that may say only what somebody does."""
    found = sorted(set(_WORD.findall(text.lower())) & identity_words())
    return NamesIdentity(f"the text of the motion says {', '.join(found)}: {text}") if found else None


class MotionTextConfig(SightConfig):
    """Which instructions."""

    instructions: str = Field("motion-1", description="a file of stages/prompts, without its ending")


class AppearanceTextConfig(SightConfig):
    """Which instructions."""

    instructions: str = Field("appearance-1", description="a file of stages/prompts, without its ending")


class PromptConfig(MllmConfig):
    """Which instructions."""

    instructions: str = Field("fuse-1", description="a file of stages/prompts, without its ending")


class _Told(Stage[Any], Generic[FormT]):
    """What the three share: a question for each row, and one field of its answer as a column."""

    name: ClassVar[str]
    form: ClassVar[type[KeyedAnswer]]

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.asking = Asking(config, self._task(config))

    @classmethod
    def digests(cls, config: Any) -> dict[str, str]:
        """Return digests of the instructions, of the schema, and of the list of words."""
        listed = hashlib.sha256(" ".join(sorted(identity_words())).encode()).hexdigest()[:16]
        return {**digests_of(cls._task(config), config.instructions), "identity words": listed}

    @classmethod
    def _task(cls, config: Any) -> Task[Any]:
        return Task(cls.name, instructions(config.instructions), cls.form, cls._objection)

    @classmethod
    def _objection(cls, answer: Any) -> MllmError | None:  # noqa: ARG003 - for those who override it
        return None

    def _ask(self, rows: Sequence[Row], questions: Sequence[Question]) -> list[Answer[Any]]:
        marks = [hashlib.sha256(repr(sorted(row.items())).encode()).hexdigest() for row in rows]
        return self.asking.ask(marks, questions)


class MotionByMllm(_Told[Motion]):
    """Frames of the source to what its main person does, in words."""

    Config: ClassVar[type[StageConfig]] = MotionTextConfig
    needs = ("id", "source", "domain")
    makes = ("motion_text",)
    name, form = "motion", Motion

    def __init__(self, config: MotionTextConfig) -> None:
        super().__init__(config)
        self.sight = Sight(config)

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        """Give for each row `motion_text`; raises as `stages.mllm_asking.Asking.ask`."""
        asked = [Question(row["id"], partial(self._show, row), row["domain"] in (None, "human")) for row in rows]
        return [{"motion_text": _plain(answer.fields.motion)} for answer in self._ask(rows, asked)]

    @classmethod
    def _objection(cls, answer: Motion) -> MllmError | None:
        return names_identity(answer.motion)

    def _show(self, row: Row) -> list[Part]:
        return [words(f"key: {row['id']}"), *self.sight.of_clip("clip", row["source"])]


class AppearanceByMllm(_Told[Appearance]):
    """Picture of the character to what is seen, in words."""

    Config: ClassVar[type[StageConfig]] = AppearanceTextConfig
    needs = ("id", "character", "domain")
    makes = ("appearance_text",)
    name, form = "appearance", Appearance

    def __init__(self, config: AppearanceTextConfig) -> None:
        super().__init__(config)
        self.sight = Sight(config)

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        """Give for each row `appearance_text`; raises as `stages.mllm_asking.Asking.ask`."""
        asked = [Question(row["id"], partial(self._show, row), row["domain"] in (None, "human")) for row in rows]
        return [{"appearance_text": _plain(answer.fields.appearance)} for answer in self._ask(rows, asked)]

    def _show(self, row: Row) -> list[Part]:
        return [words(f"key: {row['id']}"), *self.sight.of_picture("character", row["character"])]


class PromptByMllm(_Told[Fused]):
    """Both texts to one prompt; no picture is shown, so it may be asked anywhere."""

    Config: ClassVar[type[StageConfig]] = PromptConfig
    needs = ("id", "motion_text", "appearance_text")
    makes = ("prompt",)
    name, form = "prompt", Fused

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        """Give for each row `prompt`; raises as `stages.mllm_asking.Asking.ask`."""
        asked = [Question(row["id"], partial(self._show, row)) for row in rows]
        return [{"prompt": _plain(answer.fields.prompt)} for answer in self._ask(rows, asked)]

    def _show(self, row: Row) -> list[Part]:
        texts = {"appearance": row["appearance_text"], "motion": row["motion_text"]}
        return [words(f"key: {row['id']}"), words(json.dumps(texts))]


def _plain(text: str) -> str:
    """Return a text on one line, without a full stop at its end."""
    return " ".join(text.split()).rstrip(".")
