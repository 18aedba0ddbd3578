"""What can be said of a pseudo pair without anybody looking: motion, identity, shape, and what the picture is like.

It decides nothing (`manifests/verdicts.py` does) and rejects only what cannot be measured at all. The work is done in
`measure_pair`, which is loaded on use, and its rooms: figures and their points, motion, appearance, shape, flow,
sharpness (`measure_*`), the embedder.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from pydantic import Field

from stages import resolve
from stages.embedding_weights import digest, weights_file
from stages.skeleton import Skeleton, SkeletonConfig
from stages.stage import Reject, Row, Stage, StageConfig

_WORK: Final = "stages.measure_pair:PairMeasures"


class MeasureConfig(SkeletonConfig):
    """How pairs are measured. The adapter finds the figure again in the pseudo video: name that of `skeleton`."""

    moments: int = Field(8, ge=1, le=64, description="moments of a clip that are looked at, evenly over it")
    embedded: int = Field(3, ge=1, le=64, description="of them, how many are embedded for the appearance margin")
    low_percentile: float = Field(25, ge=0, le=100, description="percentile over frames of the appearance margin")
    max_people: int = Field(1, ge=1, le=1, description="the main figure is measured")
    min_person_share: float = Field(0.0, ge=0, le=1, description="figures of any size are measured")
    min_person_px: int = Field(0, ge=0, description="figures of any size are measured")
    tile_share: float = Field(0.0, ge=0, le=1, description="mediapipe: the figure is no small part of the picture")


class Measure(Stage[MeasureConfig]):
    """Source, character and pseudo video to numbers."""

    Config: ClassVar[type[StageConfig]] = MeasureConfig
    version = 2
    needs = ("source", "character", "skeleton", "pseudo")
    makes = (
        "found_share", "motion_angle_deg", "motion_cosine", "motion_pck", "appearance_margin",
        "appearance_similarity", "colour_leak", "colour_distance", "colour_worst", "shape_leak", "shape_margin",
        "flicker", "frozen_share", "sharpness", "sharpness_ratio",
    )  # fmt: skip

    def __init__(self, config: MeasureConfig) -> None:
        super().__init__(config)
        self._pairs = resolve(_WORK)(config)

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        """Give for each row; each is None where it cannot be told, mostly because no figure was found:

        found_share            share of moments in which the figure is found in the pseudo video, 0..1, higher is better
        motion_angle_deg       angle between the limbs of pseudo and source, median over frames, of arms or of legs,
                               whichever is greater, 0..180 degrees, lower is better
        motion_cosine          mean cosine of the angle over all limbs, -1..1, higher is better
        motion_pck             share of joints in their place, boxes laid on each other, 0..1, higher is better; not
                               free of the body's shape
        appearance_margin      sim(pseudo, character) - sim(pseudo, source), embedded figures, low percentile over
                               frames, -2..2, higher is better
        appearance_similarity  sim(pseudo, character), median over frames, -1..1, higher is better
        colour_leak            how far the parts' colours are on the way from the character's (0) to the source's (1),
                               lower is better
        colour_distance        mean distance of the parts' colours from the character's, delta E, 0..200, lower is
                               better
        colour_worst           that of the worst part
        shape_leak             how far the bones' lengths are on the way from the character's (0) to the source's (1),
                               the mean of what is likely, lower is better
        shape_margin           ln p(bones | nothing leaked) - ln p(bones | all leaked), nats, higher is better
        flicker                change that is no motion, 0..255 levels from frame to frame, lower is better
        frozen_share           share of the source's moving steps in which the pseudo video stands still, 0..1, lower is
                               better
        sharpness              share of the finest differences that a blur takes away, at one size of the figure, 0..1,
                               higher is sharper
        sharpness_ratio        sharpness / that of the character's picture, from 0, higher is better

        Or a Reject: pseudo_length, if the pseudo video has not as many frames as its source.
        """
        return [self._pairs(row["source"], row["character"], row["skeleton"], row["pseudo"]) for row in rows]

    @classmethod
    def digests(cls, config: Any) -> dict[str, str]:
        """Return file name -> SHA-256 of the weights of the adapter and of the embedder."""
        file = weights_file()
        return {**Skeleton.digests(config), file.name: digest(file)}
