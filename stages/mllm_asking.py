"""What the stages that ask an MLLM share: prompt files, and one row's failure that costs no other row's answer."""

import functools
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Generic

from manifests.errors import UserError
from manifests.keys import digest
from stages.mllm import End, Mllm
from stages.mllm_answers import Answer, FormT, Question, Task
from stages.mllm_config import MllmConfig

PROMPTS: Final = Path(__file__).parent / "prompts"
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]*")


class PromptFileError(UserError):
    """There is no such prompt file."""


@functools.cache
def instructions(name: str) -> str:
    """Return a prompt file of `stages/prompts`, by its name without the ending.

    Raises:
        PromptFileError: there is none of that name.
    """
    path = PROMPTS / f"{name}.md"
    if not _NAME.fullmatch(name) or not path.is_file():
        known = ", ".join(sorted(file.stem for file in PROMPTS.glob("*.md")))
        raise PromptFileError(f"there is no prompt {name!r} in stages/prompts, only {known}; put a file there")
    return path.read_text(encoding="utf-8").strip()


def prompt_digest(name: str) -> str:
    """Return the SHA-256 of a prompt's text, the first 16 hex digits."""
    return hashlib.sha256(instructions(name).encode()).hexdigest()[:16]


def digests_of(task: Task[FormT], prompt: str) -> dict[str, str]:
    """Return what of a task shapes its answers, for a stage's `digests`."""
    return {f"prompts/{prompt}.md": prompt_digest(prompt), f"{task.name} schema": digest(task.schema())}


class Asking(Generic[FormT]):
    """Puts a stage's batches to an MLLM.

    When a stage raises, the worker calls it again with each row alone, so that only the guilty one pays. Answers are
    dear, so those of a batch that came to that are kept until then: no question is asked twice.
    """

    def __init__(self, config: MllmConfig, task: Task[FormT]) -> None:
        self.client, self.task = Mllm(config), task
        self._kept: dict[str, End[FormT]] = {}

    def ask(self, marks: Sequence[str], questions: Sequence[Question]) -> list[Answer[FormT]]:
        """Return an answer to each question; `marks` tell questions apart by all that they hold.

        Raises:
            MllmError, MediaError: the first of the batch that has none; ask again for each row alone.
            EndpointsDown: see `Mllm.ask`.
        """
        kept, self._kept = self._kept, {}
        new = [number for number, mark in enumerate(marks) if mark not in kept]
        answers = self.client.ask(self.task, [questions[number] for number in new]) if new else []
        ends = {mark: kept[mark] for mark in marks if mark in kept}
        ends |= dict(zip((marks[number] for number in new), answers, strict=True))
        errors = [end for end in ends.values() if isinstance(end, Exception)]
        if errors:
            self._kept = ends if len(marks) > 1 else kept
            raise errors[0]
        if len(marks) == 1:
            self._kept = {mark: end for mark, end in kept.items() if mark not in ends}
        return [end for mark in marks if isinstance(end := ends[mark], Answer)]
