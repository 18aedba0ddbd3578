"""What can be said of a pseudo pair without anybody looking: motion, identity, shape, and what the picture is like.

It decides nothing (`manifests/verdicts.py` does) and rejects only what cannot be measured at all. The rooms: figures
and their points (`measure_figures`), motion, appearance, shape, flow, sharpness (`measure_*`), the embedder.
"""

import functools
import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from manifests.keys import sha256_of_file
from manifests.media import Clip, Picture, Video
from model.skeleton import POINTS, Points
from stages import measure_appearance, measure_flow, measure_motion, measure_shape, measure_sharpness
from stages.embedding import Embedder, weights_file
from stages.measure_appearance import Colours
from stages.measure_figures import BodyOnly, Figure, chosen, figure_of, moments, points_in
from stages.skeleton import PoseAdapter, Skeleton, SkeletonConfig, adapter_class
from stages.stage import Reject, Row, Stage, StageConfig

_KEPT: Final = 8  # sources and characters of which a worker remembers what it measured
_DIGITS: Final = 5
T = TypeVar("T")


class MeasureConfig(SkeletonConfig):
    """How pairs are measured. The adapter finds the figure again in the pseudo video: name the one that `skeleton` has."""

    moments: int = Field(8, ge=1, le=64, description="moments of a clip that are looked at, evenly over it")
    embedded: int = Field(4, ge=1, le=64, description="of them, how many are embedded for the appearance margin")
    low_percentile: float = Field(25, ge=0, le=100, description="percentile over frames of the appearance margin")
    max_people: int = Field(1, ge=1, le=1, description="the main figure is measured")
    min_person_share: float = Field(0.0, ge=0, le=1, description="figures of any size are measured")
    min_person_px: int = Field(0, ge=0, description="figures of any size are measured")
    tile_share: float = Field(0.0, ge=0, le=1, description="mediapipe: the figure is no small part of the picture")


@dataclass(frozen=True)
class _Known:
    """What is measured once of a source or a character."""

    figure: Figure
    colours: Colours
    vectors: NDArray[np.float32]  # [frames embedded, 1280]
    speeds: NDArray[np.float64]
    flicker: float
    sharpness: float


class Measure(Stage[MeasureConfig]):
    """Source, character and pseudo video to numbers."""

    Config: ClassVar[type[StageConfig]] = MeasureConfig
    needs = ("source", "character", "skeleton", "pseudo")
    makes = (
        "found_share", "motion_angle_deg", "motion_cosine", "motion_pck", "appearance_margin",
        "appearance_similarity", "colour_leak", "colour_distance", "colour_worst", "shape_leak", "shape_margin",
        "flicker", "frozen_share", "sharpness", "sharpness_ratio",
    )  # fmt: skip

    def __init__(self, config: MeasureConfig) -> None:
        super().__init__(config)
        cv2.setNumThreads(1)  # its threads cost more than they gain on pictures so small, and heed no OMP_NUM_THREADS
        adapter = BodyOnly if config.adapter == "mediapipe" else adapter_class(config.adapter)
        self.adapter: PoseAdapter = adapter(config)
        self.embedder = Embedder()
        self._sources: _Memory[_Known] = _Memory()
        self._characters: _Memory[_Known] = _Memory()

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        """Give for each row; each is None where it cannot be told, mostly because no figure was found:

        found_share            share of moments in which the figure is found in the pseudo video, 0..1, higher is better
        motion_angle_deg       mean angle between the limbs of pseudo and source, 0..180 degrees, lower is better
        motion_cosine          mean cosine of that angle, -1..1, higher is better
        motion_pck             share of joints in their place, boxes laid on each other, 0..1, higher is better; not
                               free of the body's shape
        appearance_margin      sim(pseudo, character) - sim(pseudo, source), embedded figures, low percentile over
                               frames, -2..2, higher is better
        appearance_similarity  sim(pseudo, character), median over frames, -1..1, higher is better
        colour_leak            how far the parts' colours are on the way from the character's (0) to the source's (1),
                               lower is better
        colour_distance        mean distance of the parts' colours from the character's, delta E, 0..200, lower is better
        colour_worst           that of the worst part
        shape_leak             how far the bones' lengths are on the way from the character's (0) to the source's (1),
                               lower is better
        shape_margin           (d_source - d_character) / (d_source + d_character), of the bones' lengths, -1..1, higher
                               is better
        flicker                change that is no motion, 0..255 levels from frame to frame, lower is better
        frozen_share           share of the source's moving steps in which the pseudo video stands still, 0..1, lower is
                               better
        sharpness              share of the finest differences that a blur takes away, at one size of the figure, 0..1,
                               higher is sharper
        sharpness_ratio        sharpness / that of the character's picture, from 0, higher is better

        Or a Reject: pseudo_length, if the pseudo video has not as many frames as its source.
        """
        return [self._one(row["source"], row["character"], row["skeleton"], row["pseudo"]) for row in rows]

    @classmethod
    def digests(cls, config: Any) -> dict[str, str]:
        """Return file name -> SHA-256 of the weights of the adapter and of the embedder."""
        file: Path = weights_file()
        return {**Skeleton.digests(config), file.name: _digest(file)}

    def _one(self, source: Clip, character: Picture, skeleton: Points, pseudo: Video) -> Row | Reject:
        if len(pseudo.frames) != len(skeleton):
            found = f"the pseudo video has {len(pseudo.frames)} frames and its source {len(skeleton)}"
            return Reject("pseudo_length", f"{found}, wanted as many")
        at = moments(len(skeleton), self.config.moments)
        driver = self._sources.get((source, at.tobytes()), lambda: self._source(source, skeleton, at))
        wanted = self._characters.get(character, lambda: self._character(character))
        frames, after = pseudo.frames[at], pseudo.frames[np.minimum(at + 1, len(skeleton) - 1)]
        ours = self._known(self._figure(frames, after))
        return {name: _number(value) for name, value in self._numbers(ours, driver, wanted).items()}

    def _numbers(self, ours: _Known, driver: _Known, wanted: _Known) -> dict[str, float]:
        least = self.config.min_score
        motion = measure_motion.agreement(ours.figure.points, driver.figure.points, least)
        margin, similarity = measure_appearance.look_margin(
            ours.vectors, wanted.vectors, driver.vectors, self.config.low_percentile
        )
        mean, worst = measure_appearance.colour_distance(ours.colours, wanted.colours)
        shape = measure_shape.shape(ours.figure.points, driver.figure.points, wanted.figure.points[0], least)
        return {
            "found_share": float(ours.figure.found.mean()),
            "motion_angle_deg": motion.angle_deg,
            "motion_cosine": motion.cosine,
            "motion_pck": motion.pck,
            "appearance_margin": margin,
            "appearance_similarity": similarity,
            "colour_leak": measure_appearance.colour_leak(ours.colours, wanted.colours, driver.colours),
            "colour_distance": mean,
            "colour_worst": worst,
            "shape_leak": shape.leak,
            "shape_margin": shape.margin,
            "flicker": ours.flicker,
            "frozen_share": measure_flow.frozen_share(ours.speeds, driver.speeds),
            "sharpness": ours.sharpness,
            "sharpness_ratio": ours.sharpness / max(wanted.sharpness, 1e-6),
        }

    def _source(self, source: Clip, skeleton: Points, at: NDArray[np.int64]) -> _Known:
        after = np.minimum(at + 1, len(skeleton) - 1)
        every = np.unique(np.concatenate([at, after]))
        seen = chosen(source, every)
        frames, then = seen[np.searchsorted(every, at)], seen[np.searchsorted(every, after)]
        people = skeleton.shape[1]
        points = skeleton[at, 0] if people else np.zeros((len(at), POINTS, 3), np.float32)
        return self._known(figure_of(frames, then, points, self.config.min_score, self.config.min_points))

    def _character(self, character: Picture) -> _Known:
        frames = character.rgb()[None]
        return self._known(self._figure(frames, frames))

    def _figure(self, frames: NDArray[np.uint8], after: NDArray[np.uint8]) -> Figure:
        points = points_in(self.adapter, frames, self.config)
        return figure_of(frames, after, points, self.config.min_score, self.config.min_points)

    def _known(self, figure: Figure) -> _Known:
        least = self.config.min_score
        count = len(figure.frames)
        some = np.unique(np.linspace(0, count - 1, min(self.config.embedded, count)).round().astype(int))
        vectors = np.full((len(some), 1280), np.nan, np.float32)
        there = [row for row, frame in enumerate(some) if figure.found[frame]]
        if there:
            vectors[there] = self.embedder([measure_appearance.cut_out(figure, some[row], least) for row in there])
        return _Known(
            figure,
            measure_appearance.colours(figure, least),
            vectors,
            measure_flow.speeds(figure),
            measure_flow.flicker(figure),
            measure_sharpness.sharpness(figure),
        )


class _Memory(Generic[T]):
    """The last few things that were measured: many pairs share a source or a character."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        if key in self._kept:
            self._kept.move_to_end(key)
        else:
            self._kept[key] = make()
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return self._kept[key]


@functools.cache
def _digest(file: Path) -> str:
    return sha256_of_file(file)


def _number(value: float) -> float | None:
    return round(float(value), _DIGITS) if math.isfinite(value) else None
