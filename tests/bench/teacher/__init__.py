"""The embedded teacher against the truth: what it draws across identities, and what of it is right.

BODYDOUBLE_TEACHER        folder of weights to measure; otherwise `model/tiny_weights/teacher`
BODYDOUBLE_TEACHER_PLAIN  folder of weights that were trained without bone scaling: its leak is measured beside
BODYDOUBLE_CASES          how many cases (100); 100 take about 40 minutes of one core

All are takes of theatre's held-out split: figures, motions, backgrounds, cameras and lights that no training saw. Means
are over clips, with the bootstrap interval of the mean; frames of the prefix do not count.
"""

import os
import time
from pathlib import Path
from typing import Any, Final

WEIGHTS: Final = Path(
    os.environ.get("BODYDOUBLE_TEACHER", Path(__file__).parents[3] / "model" / "tiny_weights" / "teacher")
)
PLAIN: Final = os.environ.get("BODYDOUBLE_TEACHER_PLAIN")
COUNT: Final = int(os.environ.get("BODYDOUBLE_CASES", "100"))
STEPS: Final = (4, 8, 30)


def measure() -> list[dict[str, Any]]:
    """Measure all parts."""
    from tests.bench.teacher.cases import crossing, staged
    from tests.bench.teacher.drawing import BATCH, DEFAULT_STEPS, Teacher
    from tests.bench.teacher.leak import leak
    from tests.bench.teacher.people import people
    from tests.bench.teacher.quality import DEFAULT, bounds, creatures, gap, quality
    from tests.bench.teacher.retrieval import retrieval, two_figures
    from tests.bench.teacher.rows import plain, progress
    from tests.bench.teacher.speed import speed

    if not WEIGHTS.is_dir():
        progress(f"no teacher at {WEIGHTS}: nothing is measured; name a folder of weights in BODYDOUBLE_TEACHER")
        return []
    teacher = Teacher.of(WEIGHTS)
    scenes = staged(crossing(COUNT), teacher.size)
    around = bounds(teacher, scenes)
    rows, drawn = [], {}
    for steps in STEPS:
        began_s = time.process_time()
        drawn[steps] = teacher.draw(scenes, steps)
        seconds = (time.process_time() - began_s) / COUNT
        rows.append(plain(f"{steps} steps: CPU time a clip, from what drives to pixels, {BATCH} at once", seconds, "s"))
    made, quarter = drawn[DEFAULT_STEPS], max(8, COUNT // 4)
    rows += quality(scenes, drawn, around)
    rows += gap(teacher, scenes[:quarter], made[:quarter])
    rows += retrieval(teacher, scenes, made, around)
    teachers = {"the teacher": teacher} | ({"without bone scaling": Teacher.of(Path(PLAIN))} if PLAIN else {})
    rows += leak(teachers, max(8, COUNT * 2 // 5))
    rows += creatures(teacher, quarter) + two_figures(teacher, quarter)
    rows += people({**around, DEFAULT: made, "the truth": [teacher.cut(scene.truth.frames) for scene in scenes]})
    rows += speed(teacher, WEIGHTS)
    progress("done")
    return rows
