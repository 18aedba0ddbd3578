"""The judge without a model: from the numbers of `measure` to the dimensions of a judge, by fixed scales. No MLLM.

It sees nothing that `measure` does not. Its scales were set on planted pairs (`manifests/theatre/planted`), where the
truth is known, such that 3 is where a pair stops being good enough: below 3 in any dimension, drop it. The dimensions
are those of Video-Bench (arXiv 2504.04907) by name, with motion and identity; the numbers are not comparable with those
of an MLLM, nor with published ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from stages.stage import Row

MODEL: Final = "rules-2"
"""What `judge_model` says: rules and their version. Raise it with any scale."""


@dataclass(frozen=True)
class Scale:
    """From a measure to 1..5: `best` is 5, `least` is 3, `worst` is 1, straight lines between, level beyond.

    Attributes:
        measure: A column of `stages.measure.Measure`.
        said: What it is, for the sentence, with a place for its value.
        optional: Whether the dimension may be told without it.
    """

    measure: str
    best: float
    least: float
    worst: float
    said: str
    optional: bool = False

    def score(self, value: float) -> float:
        """Return 1..5."""
        if (value - self.least) * (self.best - self.least) >= 0:
            return 3 + 2 * min((value - self.least) / (self.best - self.least), 1.0)
        return 3 - 2 * min((value - self.least) / (self.worst - self.least), 1.0)


SCALES: Final[dict[str, tuple[Scale, ...]]] = {
    "imaging_quality": (
        Scale("sharpness_ratio", 0.95, 0.66, 0.40, "the figure is {:.2f} times as sharp as the character's picture"),
    ),
    "motion_smoothness": (
        Scale("frozen_share", 0.0, 0.35, 0.8, "it stands still in {:.0%} of the steps in which the source moves"),
    ),
    "temporal_consistency": (
        Scale("flicker", 2.0, 6.0, 25.0, "the picture changes by {:.1f} levels a frame without motion"),
    ),
    "appearance_consistency": (
        Scale("colour_distance", 6.0, 23.0, 45.0, "its parts are {:.0f} delta E from the character's"),
        Scale("colour_worst", 15.0, 62.0, 100.0, "its worst part is {:.0f} delta E from the character's"),
    ),
    "motion": (
        Scale("motion_angle_deg", 4.0, 20.0, 50.0, "its arms or legs are {:.0f} degrees off the source's"),
        Scale("found_share", 1.0, 0.5, 0.2, "a figure is found in {:.0%} of its frames"),
    ),
    "identity": (
        Scale("colour_leak", 0.0, 0.34, 0.8, "its colours are {:.0%} on the way to the source's", optional=True),
        Scale("shape_leak", 0.05, 0.5, 0.95, "its bones are {:.0%} on the way to the source's", optional=True),
    ),
}  # fmt: skip
"""Of each dimension the scales; the lowest counts."""
NEEDS: Final = tuple(dict.fromkeys(scale.measure for scales in SCALES.values() for scale in scales))
"""The columns of `measure` that the rules read."""


class Rules:
    """The judge `rules`: no frames, no server, no weights."""

    needs = NEEDS

    def __init__(self, config: Any = None) -> None:
        self.config = config

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> list[Row]:
        """Give for each row `judge_<dimension>` of `SCALES`, float 1..5, or None where it cannot be told, since what it
        rests on was not measured; `judge_why`, dimension -> a sentence on what decided; `judge_model`, `rules-2`."""
        return [judged(row) for row in rows]


def judged(row: Mapping[str, Any]) -> Row:
    """Judge one row; see `Rules`."""
    out: Row = {}
    why: dict[str, str] = {}
    for dimension, scales in SCALES.items():
        score, sentence = _dimension(scales, row)
        out[f"judge_{dimension}"] = score
        why[dimension] = sentence
    return {**out, "judge_why": why, "judge_model": MODEL}


def _dimension(scales: Sequence[Scale], row: Mapping[str, Any]) -> tuple[float | None, str]:
    """Return the lowest score and its sentence; None if a scale that is not optional, or every one, has no value."""
    missing = [scale.measure for scale in scales if row[scale.measure] is None]
    if any(scale.measure in missing and not scale.optional for scale in scales) or len(missing) == len(scales):
        return None, f"not told: {' and '.join(missing)} could not be measured."
    scored = [(scale.score(float(row[scale.measure])), scale) for scale in scales if scale.measure not in missing]
    score, lowest = min(scored, key=lambda each: each[0])
    sentence = lowest.said.format(float(row[lowest.measure]))
    return round(score, 3), f"{sentence[0].upper()}{sentence[1:]}."
