"""What the teacher and the end-to-end models make of held-out cases, beside the truth."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from torch import Tensor

from manifests.theatre import figures
from manifests.theatre.cast import recast
from manifests.theatre.names import seeded
from manifests.theatre.scene import Take
from model.driving import blank_prefix, with_prefix
from model.geometry import Geometry
from model.loading import loaded
from model.training.examples import pixels
from tests.bench.study.material import Scale
from tests.bench.teacher.cases import (
    SPLIT,
    Case,
    Scene,
    bodies,
    crossing,
    other_figures,
    other_motions,
    rendered,
    staged,
    unlike,
)
from tests.bench.teacher.drawing import Teacher
from tests.bench.teacher.nearness import Frames, nearest_aligned
from tests.bench.teacher.quality import CEILING, INSIDE, STILL, bounds
from tests.bench.teacher.retrieval import found
from tests.bench.teacher.rows import Measured, Values, progress, row

TEACHER: Final = "pose-based teacher"
Made = dict[str, list[list[Frames]]]  # who made it -> clips, a list for each seed


def of_video(case: Case, size: Geometry) -> Tensor:
    """Return the driving video `[1, 3, T, H, W]` of a case as raw video: the driver's clip, blank for the prefix."""
    seen = rendered(replace(case.take, figures=case.drivers), size)
    return with_prefix(pixels(seen.frames[size.prefix_frames :]), size.prefix_frames)


def creatures(count: int) -> list[Case]:
    """Return cases in which one creature drives another of its kind."""
    cases = []
    for number, case in enumerate(crossing(count, creatures=True)):
        own = case.take.figures[0]
        names = [each for each in figures.names(SPLIT, (own.partition("-")[0],)) if each != own]
        rng = seeded("study", "creatures", number)
        cases.append(Case(case.take, (names[int(rng.integers(len(names)))],)))
    return cases


def models(teacher: Path, loras: Mapping[str, Sequence[Path]]) -> dict[str, list[Teacher]]:
    """Return the trained ones by the cut they learned from, one a seed."""

    def model(lora: Path) -> Teacher:
        backbone = loaded("tiny", teacher, (lora,), "cpu", "fp32")
        spec = backbone.spec
        return Teacher(backbone, backbone.geometry(spec.height_px, spec.width_px, spec.frames))

    return {cut: [model(lora) for lora in several] for cut, several in loras.items()}


def measure(teacher: Teacher, trained: Mapping[str, Sequence[Teacher]], scale: Scale) -> list[Measured]:
    """Return all figures of the study."""
    rows = []
    people = staged(crossing(scale.cases), teacher.size)
    made, around = _made(people, teacher, trained, scale), bounds(teacher, people)
    told = {STILL: [around[STILL]], **made, CEILING: [around[CEILING]]}
    rows += _near("people", told, people)
    rows += _retrieved("people: motion", told, people, teacher, lambda case: other_motions(case, scale.candidates - 1))
    rows += _retrieved("people: identity", told, people, teacher, lambda c: other_figures(c, scale.candidates - 1))
    rows += _retrieved("people: looks of the reference, not of who drives", told, people, teacher, _in_drivers_looks)
    rows += _limbs(teacher, trained, scale)
    animals = staged(creatures(max(3, scale.cases // 2)), teacher.size)
    made, around = _made(animals, teacher, trained, scale), bounds(teacher, animals)
    told = {STILL: [around[STILL]], **made, CEILING: [around[CEILING]]}
    rows += _near("a creature drives one of its kind", told, animals)
    return rows + _retrieved(
        "a creature drives one of its kind: motion", told, animals, teacher,
        lambda case: other_motions(case, scale.candidates - 1),
    )  # fmt: skip


def _made(scenes: Sequence[Scene], teacher: Teacher, trained: Mapping[str, Sequence[Teacher]], scale: Scale) -> Made:
    """Return what all make of some cases: the teacher by skeletons, the others by raw video; and by nothing at all."""
    size, steps = teacher.size, scale.sampler_steps
    by_video = [replace(scene, driving=of_video(scene.case, size)) for scene in scenes]
    by_nothing = [replace(scene, driving=blank_prefix(scene.driving, size.frames)) for scene in scenes]
    made: Made = {
        TEACHER: [teacher.draw(scenes, steps)],
        "the teacher, driven by nothing": [teacher.draw(by_nothing, steps)],
        "the teacher, shown raw video": [teacher.draw(by_video, steps)],
    }
    for name, several in trained.items():
        made[f"end to end, {name}"] = [each.draw(by_video, steps) for each in several]
        progress(f"end to end, {name}: drawn")
    return made


def _near(what: str, told: Made, scenes: Sequence[Scene]) -> list[Measured]:
    return _rows(what, {who: [INSIDE.of(clips, scenes) for clips in seeds] for who, seeds in told.items()}, "dB")


def _retrieved(
    what: str, told: Made, scenes: Sequence[Scene], teacher: Teacher, others: Callable[[Case], Sequence[Take]]
) -> list[Measured]:
    flat = {f"{who}\0{seed}": clips for who, seeds in told.items() for seed, clips in enumerate(seeds)}
    hits = found(teacher, scenes, flat, others, what)
    return _rows(what, {who: [hits[f"{who}\0{n}"] for n in range(len(seeds))] for who, seeds in told.items()}, "")


def _in_drivers_looks(case: Case) -> list[Take]:
    return [recast(case.take, figure=case.drivers[0])]


def _limbs(teacher: Teacher, trained: Mapping[str, Sequence[Teacher]], scale: Scale) -> list[Measured]:
    """Return how often the limbs drawn are nearer to the reference's than to the driver's, as the teacher's bench."""
    scenes = staged(unlike(max(3, scale.cases // 2)), teacher.size)
    pairs = [[teacher.cut(body) for body in bodies(scene.case, teacher.size)] for scene in scenes]
    told = {**_made(scenes, teacher, trained, scale), CEILING: [[teacher.through(s.truth.frames) for s in scenes]]}

    def right(clips: Sequence[Frames]) -> Values:
        return np.array([nearest_aligned(video, pair) == 0 for video, pair in zip(clips, pairs, strict=True)], float)

    return _rows(
        "people of other build: limbs of the reference, not of who drives",
        {who: [right(clips) for clips in seeds] for who, seeds in told.items()}, "",
    )  # fmt: skip


def _rows(what: str, values: Mapping[str, Sequence[Values]], unit: str) -> list[Measured]:
    """Return a row for each: a clip counts with its mean over the seeds; the means of single seeds stand beside."""
    rows = []
    for who, seeds in values.items():
        told = row(f"{what}: {who}", np.mean(seeds, axis=0), unit)
        if len(seeds) > 1:
            told["name"] += f"; seeds {', '.join(f'{np.nanmean(each):.3g}' for each in seeds)}"
        rows.append(told)
    return rows
