"""The judge `mllm`: frames of source, character and pseudo video to a multimodal model, and its scores back.

It looks, says what it sees, and only then scores, as Video-Bench (arXiv 2504.04907) has it: descriptions come before
sentences, and a sentence before its number. One request holds one pair and its key; an answer with another key does not
count. Writing that can be seen in a picture is part of the picture: nothing that comes from a row stands in the
instructions, and the row gives no words to the message but its key.
"""

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from stages.judge import DIMENSIONS, MAKES
from stages.mllm_answers import Answer, KeyedAnswer, Part, Question, Task, words
from stages.mllm_asking import Asking, digests_of, instructions, prompt_digest
from stages.mllm_pictures import Sight, SightConfig
from stages.stage import Reject, Row, Stage, StageConfig


def _is_sentence(said: str) -> str:
    if not said.strip() or len(said) > 600:
        raise ValueError(f"a sentence of {len(said)} characters, wanted 1 to 600")
    return said


def _is_no_truth(score: object) -> object:
    if isinstance(score, bool):  # to Python, true is a 1
        raise ValueError(f"{score} is no score")
    return score


Sentence = Annotated[str, AfterValidator(_is_sentence)]  # no length in the schema: strict servers know none


class Scored(BaseModel):
    """One dimension: why, and then the number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    why: Sentence
    score: Annotated[Literal[1, 2, 3, 4, 5], BeforeValidator(_is_no_truth)]


class Judgement(KeyedAnswer):
    """What is seen, before anything is judged; then a field for each of `stages.judge.DIMENSIONS`."""

    seen_source: Sentence
    seen_character: Sentence
    seen_pseudo: Sentence
    imaging_quality: Scored
    motion_smoothness: Scored
    temporal_consistency: Scored
    appearance_consistency: Scored
    motion: Scored
    identity: Scored


class MllmJudgeConfig(SightConfig):
    """Who judges, by which instructions, and what it is shown."""

    instructions: str = Field("judge-1", description="a file of stages/prompts, without its ending")


class JudgeByMllm(Stage[MllmJudgeConfig]):
    """Source, character and pseudo video to scores, by a multimodal model behind a server."""

    Config: ClassVar[type[StageConfig]] = MllmJudgeConfig
    needs = ("id", "source", "character", "pseudo", "source_domain", "character_domain")
    makes = MAKES
    form: ClassVar[type[Judgement]] = Judgement

    def __init__(self, config: MllmJudgeConfig) -> None:
        super().__init__(config)
        self.sight = Sight(config)
        self.asking = Asking(config, self._task(config))
        self._prompt = prompt_digest(config.instructions)

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        """Give for each row the columns of `stages.judge.Judge`.

        Raises:
            MllmError: a row has no answer that counts, after several attempts: it is quarantined with that reason.
            EndpointsDown: no endpoint answers: the run ends.
        """
        questions = [Question(row["id"], partial(self._show, row), may_show_people(row)) for row in rows]
        return [self._row(answer) for answer in self.asking.ask([mark_of(row) for row in rows], questions)]

    @classmethod
    def digests(cls, config: Any) -> dict[str, str]:
        """Return digests of the instructions and of the schema."""
        return digests_of(cls._task(config), config.instructions)

    @classmethod
    def _task(cls, config: MllmJudgeConfig) -> Task[Judgement]:
        return Task("judgement", instructions(config.instructions), cls.form)

    def _show(self, row: Row) -> list[Part]:
        parts = [words(f"key: {row['id']}"), *self.sight.of_clip("source", row["source"])]
        parts += self.sight.of_picture("character", row["character"])
        return [*parts, *self.sight.of_video("pseudo", row["pseudo"])]

    def _row(self, answer: Answer[Judgement]) -> Row:
        scored: dict[str, Scored] = {name: getattr(answer.fields, name) for name in DIMENSIONS}
        row: Row = {f"judge_{name}": float(each.score) for name, each in scored.items()}
        row["judge_why"] = {name: each.why for name, each in scored.items()}
        return row | {"judge_model": answer.model, "judge_prompt": self._prompt, "judge_answer": answer.raw}


def may_show_people(row: Row) -> bool:
    """Say whether real people may be seen: domain human, or unknown, of the source or of the character."""
    return any(row[column] in (None, "human") for column in ("source_domain", "character_domain"))


def mark_of(row: Row) -> str:
    """Return a digest of all that a row's question holds."""
    whole = hashlib.sha256(repr((row["id"], row["source"], row["character"], may_show_people(row))).encode())
    whole.update(np.ascontiguousarray(row["pseudo"].frames).data)
    return whole.hexdigest()
