"""A contact sheet of cases: reference, what drives, what was made of it, and the truth.

python -m tests.bench.teacher.sheet FOLDER    writes FOLDER/sheet.png; BODYDOUBLE_TEACHER names the weights
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from model.training.samples import to_uint8
from tests.bench.teacher import WEIGHTS
from tests.bench.teacher.cases import Case, crossing, doubles, staged, unlike
from tests.bench.teacher.drawing import Teacher
from tests.bench.teacher.nearness import Frames

LINES: Final = ("driving", "made", "truth")
FRAMES, SCALE, GAP_PX, LABEL_PX, GREY = 6, 2, 2, 12, 90


def main(folder: Path) -> None:
    """Draw the cases and write the sheet."""
    teacher = Teacher.of(WEIGHTS)
    cases = {
        "another figure drives": crossing(6),
        "not human": crossing(2, creatures=True),
        "other limbs drive": unlike(2),
        "two figures": doubles(2),
    }
    blocks = []
    for name, some in cases.items():
        blocks += drawn(teacher, some, name)
    folder.mkdir(parents=True, exist_ok=True)
    half = (len(blocks) + 1) // 2
    columns = [np.concatenate(part) for part in (blocks[:half], blocks[half:])]
    Image.fromarray(np.concatenate([_padded(column, columns[0].shape[0]) for column in columns], axis=1)).save(
        folder / "sheet.png"
    )


def drawn(teacher: Teacher, cases: Sequence[Case], name: str) -> list[Frames]:
    """Return a block `[h, w, 3]` for each case."""
    scenes, blocks = staged(cases, teacher.size), []
    for scene, video in zip(scenes, teacher.draw(scenes), strict=True):
        driving, frames = teacher.cut(to_uint8(scene.driving[0])), scene.truth.frames
        label = f"{name} ({scene.case.take.world}): {scene.case.prompt}"
        blocks.append(block(frames[0], (driving, video, teacher.cut(frames)), label))
    return blocks


def block(reference: Frames, lines: Sequence[Frames], label: str) -> Frames:
    """Lay out a reference `[H, W, 3]`, and a line for each of the videos `[n, H, W, 3]`, under a label."""
    height, width = reference.shape[:2]
    times = np.linspace(0, len(lines[0]) - 1, FRAMES).round().astype(int)
    canvas = np.full((len(lines) * (height + GAP_PX), (1 + FRAMES) * (width + GAP_PX), 3), GREY, np.uint8)
    canvas[:height, :width] = reference
    for line, video in enumerate(lines):
        for column, time in enumerate(times, start=1):
            top, start = line * (height + GAP_PX), column * (width + GAP_PX)
            canvas[top : top + height, start : start + width] = video[time]
    large = canvas.repeat(SCALE, axis=0).repeat(SCALE, axis=1)
    picture = Image.fromarray(np.pad(large, ((LABEL_PX, LABEL_PX), (0, 4 * GAP_PX), (0, 0)), constant_values=GREY))
    pen = ImageDraw.Draw(picture)
    pen.text((2, 0), label, fill="white")
    for line, what in enumerate(LINES):
        pen.text(
            (2, LABEL_PX + SCALE * (line * (height + GAP_PX) + height - 8)), "reference, " * (not line) + what, "white"
        )
    return np.asarray(picture)


def _padded(column: Frames, height: int) -> Frames:
    return np.pad(column, ((0, height - len(column)), (0, 0), (0, 0)), constant_values=GREY)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
