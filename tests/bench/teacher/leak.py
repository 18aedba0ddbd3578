"""Whose limbs does the figure have, where the driver's are clearly others? Section 5 of METHOD: the shape's leak."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from tests.bench.teacher.cases import background, bodies, staged, unlike
from tests.bench.teacher.drawing import Teacher
from tests.bench.teacher.nearness import Frames, nearest_aligned
from tests.bench.teacher.quality import CEILING, EMPTY, STILL
from tests.bench.teacher.rows import Measured, Values, progress, row

LEAST: Final = 0.8


def leak(teachers: Mapping[str, Teacher], count: int) -> list[Measured]:
    """Return how often the limbs drawn are nearer to the reference's than to the driver's.

    Both bodies are rendered in the reference's looks, the driver's by planting its build (`planted.mixing`), and each
    is laid over what was drawn before it is compared: size and place do not count, only form. What the VAE makes of
    either body says how well this way of telling works.

    Args:
        teachers: The first is judged; others stand beside it, `without bone scaling` say.
        count: Of cases.
    """
    first = next(iter(teachers.values()))
    scenes = staged(unlike(count), first.size)
    pairs = [bodies(scene.case, first.size) for scene in scenes]
    progress(f"leak: {count} clips")
    told: dict[str, Sequence[Frames]] = {
        "floor: the driver's body by the VAE": [first.through(leaked) for _, leaked in pairs],
        STILL: [first.still(scene) for scene in scenes],
        EMPTY: [first.cut(background(scene.case.take, first.size)) for scene in scenes],
        **{name: teacher.draw(scenes) for name, teacher in teachers.items()},
        CEILING: [first.through(scene.truth.frames) for scene in scenes],
    }
    right: dict[str, Values] = {}
    for label, clips in told.items():
        hits = [
            nearest_aligned(video, [first.cut(body) for body in pair]) == 0
            for video, pair in zip(clips, pairs, strict=True)
        ]
        right[label] = np.array(hits, float)
    judged, *others = teachers
    head = "leak: limbs nearer to the reference's than to the driver's (chance 0.5)"
    rows = [row(f"{head}, {label}", hits, "", LEAST if label == judged else None) for label, hits in right.items()]
    rows += [row(f"the same, {judged} less {other}", right[judged] - right[other]) for other in others]
    return rows
