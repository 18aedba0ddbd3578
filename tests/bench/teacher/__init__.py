"""The embedded teacher against the truth: what it draws across identities, and what of it is right.

Takes the weights in `model/tiny_weights/teacher`, or in the folder that BODYDOUBLE_TEACHER names; BODYDOUBLE_CASES
(100) says how many cases.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from manifests.theatre import motions
from manifests.theatre.planted.mixing import Mix, picture
from model.animate import animate
from model.backbone import Backbone, load
from model.composite import join, left
from model.geometry import Geometry
from model.sampler import Guidance
from model.training.examples import pixels
from model.training.reconstruct import interval
from tests.bench.teacher.cases import (
    Case,
    background,
    crossing,
    doubles,
    driving_of,
    other_figures,
    other_motions,
    rendered,
    to_frames,
    unlike,
)
from tests.bench.teacher.nearness import Frames, Masks, nearest, psnr, ssim

Measured = dict[str, Any]
WEIGHTS = Path(os.environ.get("BODYDOUBLE_TEACHER", Path(__file__).parents[3] / "model" / "tiny_weights" / "teacher"))
COUNT = int(os.environ.get("BODYDOUBLE_CASES", "100"))
CANDIDATES, BATCH = 20, 8
STEPS = (4, 8, 30)


def measure() -> list[Measured]:
    """Measure all parts."""
    backbone = load("tiny", str(WEIGHTS), torch.float32, "cpu")
    size = backbone.geometry(64, 64, 21)
    cases = crossing(COUNT)
    truth = [rendered(case.take, size) for case in cases]
    rows = []
    drawn: dict[int, list[Frames]] = {}
    for steps in STEPS:
        began_s = time.process_time()
        drawn[steps] = draw(backbone, size, cases, truth, steps)
        seconds = (time.process_time() - began_s) / len(cases)
        rows += _quality(drawn[steps], truth, size, f"{steps} steps")
        rows.append(_row(f"{steps} steps: CPU time a clip, skeletons to pixels", np.array([seconds]), "s"))
    rows += _floors(backbone, size, cases, truth)
    own = draw(backbone, size, cases, truth, STEPS[-1], own=True)
    gap = _inside(psnr, own, truth, size) - _inside(psnr, drawn[STEPS[-1]], truth, size)
    rows.append(_row("same-identity less cross-identity skeletons, inside figures", gap, "dB"))
    rows += _retrieval(drawn[STEPS[-1]], cases, truth, size)
    rows += _leak(backbone, size)
    rows += _creatures(backbone, size)
    return rows + _doubles(backbone, size)


def draw(
    backbone: Backbone, size: Geometry, cases: Sequence[Case], truth: Sequence[Any], steps: int, own: bool = False
) -> list[Frames]:
    """Return what the teacher makes of each case, uint8 `[T, H, W, 3]`, prefix included."""
    made: list[Frames] = []
    for start in range(0, len(cases), BATCH):
        some = range(start, min(start + BATCH, len(cases)))
        reference = torch.cat([pixels(truth[i].frames[:1])[:, :, 0] for i in some])
        driving = torch.cat([driving_of(cases[i], size, own) for i in some])
        with torch.autocast("cpu", torch.bfloat16):
            videos = animate(
                backbone, reference, driving, [cases[i].prompt for i in some], seeds=list(some), steps=steps,
                guidance=Guidance(),
            )  # fmt: skip
        made += [to_frames(video.float()) for video in videos]
    return made


def _quality(made: Sequence[Frames], truth: Sequence[Any], size: Geometry, name: str) -> list[Measured]:
    rows = [_row(f"{name}: PSNR inside figures", _inside(psnr, made, truth, size), "dB")]
    rows.append(_row(f"{name}: SSIM inside figures", _inside(ssim, made, truth, size), ""))
    whole = [psnr(m, t.frames, np.ones(t.frames.shape[:3], np.bool_)) for m, t in zip(made, truth, strict=True)]
    return [*rows, _row(f"{name}: PSNR of whole frames", np.array(whole), "dB")]


def _floors(backbone: Backbone, size: Geometry, cases: Sequence[Case], truth: Sequence[Any]) -> list[Measured]:
    still = [np.repeat(t.frames[:1], size.frames, axis=0) for t in truth]
    empty = [background(case.take, size) for case in cases]
    coded = [_through(backbone, t.frames) for t in truth]
    rows = _quality(still, truth, size, "floor, the reference repeated")
    rows += _quality(empty, truth, size, "floor, the background alone")
    return rows + _quality(coded, truth, size, "ceiling, the truth through the VAE")


@torch.no_grad()
def _through(backbone: Backbone, frames: Frames) -> Frames:
    video = pixels(frames)
    return to_frames(left(backbone.decode(backbone.encode(join(video, video))))[0])


def _retrieval(made: Sequence[Frames], cases: Sequence[Case], truth: Sequence[Any], size: Geometry) -> list[Measured]:
    """Of 20 candidates that differ in one thing only, is the nearest the right one?"""
    rows = []
    for name, others, wanted in (("motion", other_motions, 0.9), ("identity", other_figures, 0.75)):
        right = []
        for video, case, true in zip(made, cases, truth, strict=True):
            candidates = [true.frames, *(rendered(take, size).frames for take in others(case, CANDIDATES - 1))]
            right.append(nearest(video, candidates, size.prefix_frames) == 0)
        rows.append(_row(f"{name}: the nearest of {CANDIDATES} is right", np.array(right, float), "", wanted))
    return rows


def _leak(backbone: Backbone, size: Geometry) -> list[Measured]:
    """Two truths in the reference's colours: with the reference's limbs, and with the driver's."""
    cases = unlike(max(8, COUNT * 2 // 5))
    truth = [rendered(case.take, size) for case in cases]
    made = draw(backbone, size, cases, truth, STEPS[-1])
    right = []
    for video, case in zip(made, cases, strict=True):
        motion = motions.motion(case.take.motions[0], size.frames, size.fps)
        bodies = [
            picture(Mix(case.take.figures[0], case.drivers[0], build=build), motion, case.take, 64, 64)
            for build in (0.0, 1.0)
        ]
        right.append(nearest(video, bodies, size.prefix_frames) == 0)
    return [_row("leak: limbs nearer to the reference's than to the driver's", np.array(right, float), "", 0.8)]


def _creatures(backbone: Backbone, size: Geometry) -> list[Measured]:
    cases = crossing(max(8, COUNT // 4), creatures=True)
    truth = [rendered(case.take, size) for case in cases]
    made = draw(backbone, size, cases, truth, STEPS[-1])
    still = [np.repeat(t.frames[:1], size.frames, axis=0) for t in truth]
    return [
        _row("figures that are not human: PSNR inside", _inside(psnr, made, truth, size), "dB"),
        _row("the same, floor: the reference repeated", _inside(psnr, still, truth, size), "dB"),
    ]


def _doubles(backbone: Backbone, size: Geometry) -> list[Measured]:
    """Do the figures move as their own skeletons do, or as each other's?"""
    cases = doubles(max(8, COUNT // 4))
    truth = [rendered(case.take, size) for case in cases]
    made = draw(backbone, size, cases, truth, STEPS[-1])
    right = []
    for video, case, true in zip(made, cases, truth, strict=True):
        swapped = rendered(replace(case.take, motions=case.take.motions[::-1]), size).frames
        right.append(nearest(video, [true.frames, swapped], size.prefix_frames) == 0)
    return [
        _row("two figures: PSNR inside", _inside(psnr, made, truth, size), "dB"),
        _row("two figures: each moves as its own skeleton, not as the other's", np.array(right, float), ""),
    ]


def _inside(
    near: Callable[[Frames, Frames, Masks], float], made: Sequence[Frames], truth: Sequence[Any], size: Geometry
) -> NDArray[np.float64]:
    """Return a measure inside the true figures, of each clip, without the prefix."""
    after = slice(size.prefix_frames, None)
    return np.array(
        [near(m[after], t.frames[after], t.masks[after].any(axis=1)) for m, t in zip(made, truth, strict=True)]
    )


def _row(name: str, values: NDArray[np.float64], unit: str, wanted: float | None = None) -> Measured:
    value, (low, high) = float(np.nanmean(values)), interval(values)
    told = f"{name} (95 % {low:.3g} to {high:.3g}, n {len(values)})" if len(values) > 1 else name
    holds = None if wanted is None else value >= wanted
    return {"name": told, "value": value, "unit": unit, "target": wanted and f">= {wanted:g}", "holds": holds}
