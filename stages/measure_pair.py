"""The measures of one pair, put together; see `stages.measure.Measure` for what each number is."""

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from manifests.media import Clip, Picture, Video
from model.skeleton import POINTS, Points
from stages import measure_appearance, measure_flow, measure_motion, measure_shape, measure_sharpness, resolve
from stages.embedding import WIDTH, Embedder
from stages.measure import MeasureConfig
from stages.measure_appearance import Colours
from stages.measure_figures import Figure, chosen, figure_of, moments, points_in
from stages.skeleton import PoseAdapter, adapter_class
from stages.stage import Reject, Row

_BODY_ONLY: Final = "stages.measure_mediapipe:BodyOnly"
_KEPT: Final = 8  # sources and characters of which a worker remembers what it measured
_DIGITS: Final = 5
T = TypeVar("T")


@dataclass(frozen=True)
class _Known:
    """What is measured once of a source or a character."""

    figure: Figure
    colours: Colours
    vectors: NDArray[np.float32]  # [frames embedded, WIDTH]
    speeds: NDArray[np.float64]
    flicker: float
    sharpness: float


class PairMeasures:
    """Measures pairs one by one, and remembers the last sources and characters; `adapter` finds the figures."""

    def __init__(self, config: MeasureConfig) -> None:
        cv2.setNumThreads(1)  # its threads cost more than they gain on pictures so small, and heed no OMP_NUM_THREADS
        self.config = config
        adapter = resolve(_BODY_ONLY) if config.adapter == "mediapipe" else adapter_class(config.adapter)
        self.adapter: PoseAdapter = adapter(config)
        self.embedder = Embedder()
        self._sources: _Memory[_Known] = _Memory()
        self._characters: _Memory[_Known] = _Memory()

    def __call__(self, source: Clip, character: Picture, skeleton: Points, pseudo: Video) -> Row | Reject:
        """Measure one pair: the columns of `Measure`, or a Reject."""
        if len(pseudo.frames) != len(skeleton):
            found = f"the pseudo video has {len(pseudo.frames)} frames and its source {len(skeleton)}"
            return Reject("pseudo_length", f"{found}, wanted as many")
        at = moments(len(skeleton), self.config.moments)
        seen = skeleton[at, 0] if skeleton.shape[1] else np.zeros((len(at), POINTS, 3), np.float32)
        driver = self._sources.get((source, seen.tobytes()), lambda: self._source(source, seen, at, len(skeleton)))
        wanted = self._characters.get(character, lambda: self._character(character))
        frames, after = pseudo.frames[at], pseudo.frames[np.minimum(at + 1, len(skeleton) - 1)]
        (height, width), (of_height, of_width) = frames.shape[1:3], driver.figure.frames.shape[1:3]
        scale = np.array([width / of_width, height / of_height] * 2, np.float32)  # it should be where the source is
        ours = self._known(self._figure(frames, after, driver.figure.boxes * scale))
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
            "shape_leak": shape.leak(),
            "shape_margin": shape.margin(),
            "flicker": ours.flicker,
            "frozen_share": measure_flow.frozen_share(ours.speeds, driver.speeds),
            "sharpness": ours.sharpness,
            "sharpness_ratio": ours.sharpness / max(wanted.sharpness, 1e-6),
        }

    def _source(self, source: Clip, points: Points, at: NDArray[np.int64], total: int) -> _Known:
        after = np.minimum(at + 1, total - 1)
        every = np.unique(np.concatenate([at, after]))
        seen = chosen(source, every)
        frames, then = seen[np.searchsorted(every, at)], seen[np.searchsorted(every, after)]
        return self._known(figure_of(frames, then, points, self.config.min_score, self.config.min_points))

    def _character(self, character: Picture) -> _Known:
        frames = character.rgb()[None]
        return self._known(self._figure(frames, frames))

    def _figure(
        self, frames: NDArray[np.uint8], after: NDArray[np.uint8], expected: NDArray[np.float32] | None = None
    ) -> Figure:
        points = points_in(self.adapter, frames, self.config)
        return figure_of(frames, after, points, self.config.min_score, self.config.min_points, expected)

    def _known(self, figure: Figure) -> _Known:
        least = self.config.min_score
        count = len(figure.frames)
        some = np.unique(np.linspace(0, count - 1, min(self.config.embedded, count)).round().astype(int))
        vectors = np.full((len(some), WIDTH), np.nan, np.float32)
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


def _number(value: float) -> float | None:
    return round(float(value), _DIGITS) if math.isfinite(value) else None
