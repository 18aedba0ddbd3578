"""Of candidates that differ in one thing only, is the one nearest to what was drawn the right one?"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from manifests.theatre.scene import Take
from tests.bench.teacher.cases import (
    Case,
    Scene,
    background,
    before,
    doubles,
    other_figures,
    other_motions,
    staged,
    swapped,
)
from tests.bench.teacher.drawing import Teacher
from tests.bench.teacher.nearness import Frames, nearest
from tests.bench.teacher.quality import CEILING, DEFAULT, INSIDE, STILL, bounds, compared, gained
from tests.bench.teacher.rows import Measured, Values, progress, row

CANDIDATES: Final = 20


def retrieval(
    teacher: Teacher, scenes: Sequence[Scene], made: Sequence[Frames], around: Mapping[str, Sequence[Frames]]
) -> list[Measured]:
    """Return how often the nearest is right: motions of the same figure, and figures in the same motion.

    The reference repeated knows who and not how: chance for motions, and near the best for figures.
    """
    told = {STILL: around[STILL], DEFAULT: made, CEILING: around[CEILING]}
    rows = []
    for name, others, wanted in (("motion", other_motions, 0.9), ("identity", other_figures, 0.75)):
        for label, hits in found(teacher, scenes, told, lambda case, of=others: of(case, CANDIDATES - 1), name).items():
            least = wanted if label == DEFAULT else None
            what = f"{name}: of {CANDIDATES} (chance {1 / CANDIDATES:g}) the nearest is right, {label}"
            rows.append(row(what, hits, "", least))
    return rows


def found(
    teacher: Teacher, scenes: Sequence[Scene], told: Mapping[str, Sequence[Frames]],
    others: Callable[[Case], Sequence[Take]], name: str,
) -> dict[str, Values]:  # fmt: skip
    """Return for each label, a clip at a time, whether the truth is nearer (1) than all of `others` (0)."""
    right: dict[str, list[float]] = {label: [] for label in told}
    for number, scene in enumerate(scenes):
        backdrop = background(scene.case.take, teacher.size)
        takes = [scene.case.take, *others(scene.case)]
        candidates = [teacher.cut(before(backdrop, take, teacher.size)) for take in takes]
        for label, clips in told.items():
            right[label].append(float(nearest(clips[number], candidates) == 0))
        if number % 10 == 9:
            progress(f"{name}: {number + 1} of {len(scenes)} clips")
    return {label: np.array(hits) for label, hits in right.items()}


def two_figures(teacher: Teacher, count: int) -> list[Measured]:
    """Return how near pictures of two figures come, and which skeleton goes to which."""
    scenes = staged(doubles(count), teacher.size)
    made, around, name = teacher.draw(scenes), bounds(teacher, scenes), "two figures: "
    rows = compared(name, INSIDE, scenes, {DEFAULT: made}, around) + gained(name, scenes, {DEFAULT: made}, around)
    candidates = []
    for scene in scenes:
        backdrop = background(scene.case.take, teacher.size)
        takes = (scene.case.take, *swapped(scene.case))
        candidates.append([teacher.cut(before(backdrop, take, teacher.size)) for take in takes])
    for label, clips in ((STILL, around[STILL]), (DEFAULT, made), (CEILING, around[CEILING])):
        right = [nearest(video, among) == 0 for video, among in zip(clips, candidates, strict=True)]
        what = f"{name}neither their motions nor their places exchanged (chance 0.333)"
        rows.append(row(f"{what}, {label}", np.array(right, float)))
    return rows
