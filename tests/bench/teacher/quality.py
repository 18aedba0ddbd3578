"""How near what is drawn comes to the truth, beside two floors and the ceiling."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from model.driving import blank_prefix
from tests.bench.teacher.cases import WORLDS, Scene, background, crossing, driving_in_place, driving_of, staged
from tests.bench.teacher.drawing import DEFAULT_STEPS, Teacher
from tests.bench.teacher.nearness import Frames, Masks, psnr, ssim
from tests.bench.teacher.rows import Measured, Values, progress, row, share_of_the_way

STILL, EMPTY, CEILING = "floor: the reference repeated", "floor: the background alone", "ceiling: the truth by the VAE"
GAIN_DB, SHARE = 4.0, 0.5
DEFAULT: Final = f"{DEFAULT_STEPS} steps"
Near = Callable[[Frames, Frames, Masks], float]


@dataclass(frozen=True)
class Metric:
    """A measure of nearness, inside the true figures or of whole frames."""

    name: str
    unit: str
    near: Near
    inside: bool

    def of(self, made: Sequence[Frames], scenes: Sequence[Scene]) -> Values:
        """Return one number a clip, of the frames after the prefix."""
        values = []
        for video, scene in zip(made, scenes, strict=True):
            after = slice(-len(video), None)
            masks = np.asarray(scene.truth.masks[after].any(axis=1))
            where = masks if self.inside else np.ones_like(masks)
            values.append(self.near(video, scene.truth.frames[after], where))
        return np.array(values)


INSIDE: Final = Metric("PSNR inside figures", "dB", psnr, True)
METRICS: Final = (
    INSIDE,
    Metric("SSIM inside figures", "", ssim, True),
    Metric("PSNR of whole frames", "dB", psnr, False),
    Metric("SSIM of whole frames", "", ssim, False),
)


def bounds(teacher: Teacher, scenes: Sequence[Scene]) -> dict[str, list[Frames]]:
    """Return the floors and the ceiling of these scenes."""
    progress(f"floors and ceiling of {len(scenes)} clips")
    return {
        STILL: [teacher.still(scene) for scene in scenes],
        EMPTY: [teacher.cut(background(scene.case.take, teacher.size)) for scene in scenes],
        CEILING: [teacher.through(scene.truth.frames) for scene in scenes],
    }


def compared(
    name: str, metric: Metric, scenes: Sequence[Scene], made: Mapping[str, Sequence[Frames]],
    around: Mapping[str, Sequence[Frames]],
) -> list[Measured]:  # fmt: skip
    """Return rows of a metric: floors, what was made under each name of `made`, and the ceiling; all of `around`."""
    told = {STILL: around[STILL], EMPTY: around[EMPTY], **made, CEILING: around[CEILING]}
    return [
        row(f"{name}{metric.name}, {label}", metric.of(clips, scenes), metric.unit) for label, clips in told.items()
    ]


def gained(
    name: str, scenes: Sequence[Scene], made: Mapping[str, Sequence[Frames]], around: Mapping[str, Sequence[Frames]],
    wanted: str = "",
) -> list[Measured]:  # fmt: skip
    """Return how far PSNR inside figures has come from the better floor, in dB and as a share of the way to the
    ceiling; targets stand where `made` is called `wanted`."""
    floors = {label: INSIDE.of(around[label], scenes) for label in (STILL, EMPTY)}
    better = max(floors, key=lambda label: float(np.nanmean(floors[label])))
    floor, ceiling = floors[better], INSIDE.of(around[CEILING], scenes)
    rows = []
    for label, clips in made.items():
        least_db, least = (GAIN_DB, SHARE) if label == wanted else (None, None)
        values, head = INSIDE.of(clips, scenes), f"{name}{INSIDE.name}, {label}"
        rows.append(row(f"{head}: above the better {better}", values - floor, INSIDE.unit, least_db))
        rows.append(share_of_the_way(f"{head}: share of the way to the ceiling", values, floor, ceiling, least))
    return rows


def quality(
    scenes: Sequence[Scene], drawn: Mapping[int, Sequence[Frames]], around: Mapping[str, Sequence[Frames]]
) -> list[Measured]:
    """Return all metrics of what was drawn in so many steps; and the first by world."""
    made = {f"{steps} steps": clips for steps, clips in drawn.items()}
    rows = [each for metric in METRICS for each in compared("", metric, scenes, made, around)]
    rows += gained("", scenes, made, around, DEFAULT)
    for world in WORLDS:
        some = [i for i, scene in enumerate(scenes) if scene.case.take.world == world]

        def of_world(clips: Mapping[str, Sequence[Frames]], some: Sequence[int] = some) -> dict[str, list[Frames]]:
            return {label: [each[i] for i in some] for label, each in clips.items()}

        only = [scenes[i] for i in some]
        rows += compared(f"world `{world}`: ", INSIDE, only, of_world({DEFAULT: made[DEFAULT]}), of_world(around))
    return rows


def gap(teacher: Teacher, scenes: Sequence[Scene], crossed: Sequence[Frames]) -> list[Measured]:
    """Return what it costs to be driven by somebody else, and what to be driven at all is worth, in the same clips."""
    size = teacher.size
    by = {"its own skeleton": [driving_of(scene.case, size, own=True) for scene in scenes]}
    if size.placement == "aligned":
        by["its own skeleton, just where it is in the truth"] = [driving_in_place(scene.case, size) for scene in scenes]
    by["nothing"] = [blank_prefix(scene.driving, size.frames) for scene in scenes]
    another, rows = INSIDE.of(crossed, scenes), []
    for what, videos in by.items():
        some = [replace(scene, driving=video) for scene, video in zip(scenes, videos, strict=True)]
        values = INSIDE.of(teacher.draw(some), scenes)
        rows.append(row(f"{INSIDE.name}, driven by {what}", values, INSIDE.unit))
        rows.append(row(f"{INSIDE.name}, the same less driven by another's skeleton", values - another, INSIDE.unit))
    return rows


def creatures(teacher: Teacher, count: int) -> list[Measured]:
    """Return how near pictures of figures that are not human come."""
    some = staged(crossing(count, creatures=True), teacher.size)
    made, around = {DEFAULT: teacher.draw(some)}, bounds(teacher, some)
    name = "figures not human: "
    return [*compared(name, INSIDE, some, made, around), *gained(name, some, made, around)]
