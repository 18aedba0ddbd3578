"""What a judge says of a pseudo pair: six dimensions, 1 to 5, and a sentence on each. It decides nothing.

The first four are those of Video-Bench (arXiv 2504.04907), which the method's filter uses; `motion` and `identity` are
what people checked there. Numbers of two judges, or of two versions of one, are not comparable: `keep` takes
percentiles, or thresholds calibrated against labels, never a number from a paper.

Adapters, each a stage of its own, since each needs other columns:

    rules   the numbers of `measure` on fixed scales: no model, and says so (the default)
    mllm    a multimodal model that an OpenAI-compatible server offers
    vllm    the same, by an engine that the worker starts beside itself
"""

from collections.abc import Sequence
from typing import ClassVar, Final

from pydantic import Field

from stages.judge_rules import Rules
from stages.stage import Reject, Row, Stage, StageConfig

DIMENSIONS: Final = {
    "imaging_quality": "sharp, well exposed, without artefacts, the picture of a figure as it should be",
    "motion_smoothness": "movement flows from frame to frame, without jumps, jitter or standing still",
    "temporal_consistency": "figure and background stay the same: nothing flickers, melts, comes or goes",
    "appearance_consistency": "in every frame the figure looks as the character: face, hair, clothes, colours, build",
    "motion": "the figure does what the source does, at the same moments",
    "identity": "nothing of the source's figure is taken over: not its face, its clothes, its colours, its build",
}
"""Dimension -> what a 5 means."""
SCORES: Final = tuple(f"judge_{name}" for name in DIMENSIONS)
MAKES: Final = (*SCORES, "judge_why", "judge_model", "judge_prompt", "judge_answer")
ADAPTERS: Final = {
    "rules": "stages.judge:Judge",
    "mllm": "stages.judge_mllm:JudgeByMllm",
    "vllm": "stages.judge_vllm:JudgeByVllm",
}


class JudgeConfig(StageConfig):
    """The rules have no knobs: their scales are versioned with their code."""

    batch_size: int = Field(256, ge=1, description="rows handed to the stage at once")


class Judge(Stage[JudgeConfig]):
    """Measures to scores, by the rules of `stages/judge_rules.py`."""

    Config: ClassVar[type[StageConfig]] = JudgeConfig
    version = 2
    needs = Rules.needs
    makes = MAKES

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__(config)
        self.rules = Rules(config)

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        """Give for each row:

        judge_<dimension>  float 1..5, higher is better; None where it cannot be told
        judge_why          dict, dimension -> a sentence
        judge_model        who judged: `rules-2`, or the name that a server gave
        judge_prompt       digest of the instructions to a model; None of the rules
        judge_answer       the model's answer as it was written; None of the rules
        """
        return [{"judge_prompt": None, "judge_answer": None, **row} for row in self.rules(rows)]
