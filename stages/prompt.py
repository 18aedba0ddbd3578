"""Texts for the teacher in three steps: what the source does, what the character looks like, and both for their pair.

    sources      motion_text       "waving"
    characters   appearance_text   "a person in a red shirt and blue shorts"
    pairs        prompt            "a person in a red shirt and blue shorts, waving"

A prompt names the character of the REFERENCE and the motion of the DRIVING clip (section 3.3 of the method). The motion
text says nothing of who moves, so that the source's identity cannot reach the prompt: here, since it is made of the
skeleton alone; of an MLLM (`stages/prompt_mllm.py`), since a text that says more is refused.
"""

from collections.abc import Sequence
from typing import ClassVar, Final

from pydantic import Field

from stages.prompt_look import look
from stages.prompt_motion import doing
from stages.stage import Reject, Row, Stage, StageConfig

NOUNS: Final = (
    "bear", "bird", "cat", "child", "deer", "dog", "dragon", "duck", "elephant", "fish", "fox", "frog", "horse",
    "knight", "lion", "monkey", "mouse", "panda", "pig", "puppet", "rabbit", "robot", "skeleton", "snowman", "tiger",
    "toy", "wolf", "zebra",
)  # fmt: skip
ADAPTERS: Final = {
    "sources": {"facts": "stages.prompt:MotionText", "mllm": "stages.prompt_mllm:MotionByMllm"},
    "characters": {"facts": "stages.prompt:AppearanceText", "mllm": "stages.prompt_mllm:AppearanceByMllm"},
    "pairs": {"facts": "stages.prompt:Prompt", "mllm": "stages.prompt_mllm:PromptByMllm"},
}


class TextConfig(StageConfig):
    """Plain texts have no knobs."""

    batch_size: int = Field(64, ge=1, description="rows handed to the stage at once")


class AppearanceConfig(TextConfig):
    """What may be called by its name."""

    nouns: tuple[str, ...] = Field(NOUNS, description="tags that say what a character is")


class MotionText(Stage[TextConfig]):
    """Skeleton to what its main person does, in words."""

    Config: ClassVar[type[StageConfig]] = TextConfig
    needs = ("fps", "skeleton")
    makes = ("motion_text",)

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        """Give for each row `motion_text`, a few words in the form of "waving"."""
        return [{"motion_text": doing(row["skeleton"], row["fps"])} for row in rows]


class AppearanceText(Stage[AppearanceConfig]):
    """Picture to what is seen, in words."""

    Config: ClassVar[type[StageConfig]] = AppearanceConfig
    needs = ("character", "skeleton", "domain", "tags")
    makes = ("appearance_text",)

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        """Give for each row `appearance_text`, in the form of "a person in a red shirt and blue shorts"."""
        return [{"appearance_text": self._one(row)} for row in rows]

    def _one(self, row: Row) -> str:
        skeleton = row["skeleton"]
        person = skeleton[0, 0] if skeleton.shape[1] else None
        return look(row["character"].rgba(), person, row["domain"], row["tags"] or (), self.config.nouns)


class Prompt(Stage[TextConfig]):
    """Both texts to one prompt."""

    Config: ClassVar[type[StageConfig]] = TextConfig
    needs = ("motion_text", "appearance_text")
    makes = ("prompt",)

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        """Give for each row `prompt`, the character's look and the source's motion."""
        return [{"prompt": f"{row['appearance_text']}, {row['motion_text']}"} for row in rows]
