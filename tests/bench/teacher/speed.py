"""Where the time of `animate` goes, and what it is worth to draw several at once. Ratios are taken in one run."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from manifests.media import Video, write_mp4
from manifests.theatre.scene import render
from model.animate import Animator
from model.training.examples import pixels
from model.windows import animate_windows
from pipeline.animate_order import Order
from pipeline.animating import animate_files
from tests.bench.teacher.cases import Case, crossing, rendered, staged
from tests.bench.teacher.drawing import BATCH, DEFAULT_STEPS, Teacher
from tests.bench.teacher.rows import Measured, plain, progress

INSIDE, TOGETHER, SAME = 0.85, 1.2, 1e-5
COMPUTING = ("encode", "decode", "velocity")
CLIP_FRAMES, CLIP_SIDE_PX = 41, 384  # three windows; of this size MediaPipe finds the figures of theatre


class Clocked:
    """A backbone, and the CPU seconds spent in it."""

    def __init__(self, backbone: Any) -> None:
        self.backbone, self.seconds = backbone, 0.0

    def __getattr__(self, name: str) -> Any:
        member = getattr(self.backbone, name)
        return self._timed(member) if name in COMPUTING else member

    def _timed(self, member: Callable[..., Any]) -> Callable[..., Any]:
        def call(*values: Any) -> Any:
            began_s = time.process_time()
            try:
                return member(*values)
            finally:
                self.seconds += time.process_time() - began_s

        return call


def speed(teacher: Teacher, weights: Path) -> list[Measured]:
    """Measure all of this file."""
    return [*together(teacher), sampler(teacher), *command(weights)]


def together(teacher: Teacher) -> list[Measured]:
    """Time clips in one batch against one by one, skeleton to pixels; and compare their latents."""
    scenes = staged(crossing(BATCH), teacher.size)
    reference = torch.cat([pixels(scene.truth.frames[:1])[:, :, 0] for scene in scenes])
    driving = torch.cat([scene.driving for scene in scenes])

    def drawn(some: slice) -> tuple[torch.Tensor, float]:
        began_s = time.process_time()
        animator = Animator(
            teacher.backbone, reference[some], [scene.case.prompt for scene in scenes[some]],
            seeds=list(range(BATCH))[some], steps=DEFAULT_STEPS,
        )  # fmt: skip
        latents = animator.latents(driving[some])
        animator.decode(latents)
        return latents, time.process_time() - began_s

    progress(f"speed: {BATCH} clips one by one and together")
    drawn(slice(0, 1))  # what is only done once a process is done
    single = [drawn(slice(i, i + 1)) for i in range(BATCH)]
    batch, batch_s = drawn(slice(0, BATCH))
    apart, largest = (
        float((torch.cat([latents for latents, _ in single]) - batch).abs().max()),
        float(batch.abs().max()),
    )
    seconds = sum(s for _, s in single)
    threads = torch.get_num_threads()
    return [
        plain(f"{BATCH} clips together: times faster a clip than one by one, {threads} thread(s)", seconds / batch_s,
              least=TOGETHER),
        plain(f"the same: largest difference between their latents, which reach {largest:.1f}", apart, most=SAME),
        plain("the same, as a share of the largest latent", apart / largest, most=SAME),
        plain(f"one clip alone: CPU time, {DEFAULT_STEPS} steps", seconds / BATCH, "s"),
    ]  # fmt: skip


def sampler(teacher: Teacher) -> Measured:
    """Return the share of a clip of three windows that is spent in backbone and VAE, without any file."""
    (case,), size = crossing(1), teacher.size
    clocked: Any = Clocked(teacher.backbone)
    reference = rendered(case.take, size).frames[:1]
    driving = np.random.default_rng(0).integers(0, 256, (1, CLIP_FRAMES, *reference.shape[1:]), np.uint8)
    progress("speed: share of sampling inside backbone and VAE")
    began_s = time.process_time()
    for _ in animate_windows(clocked, size, reference, driving, [case.prompt], seeds=[0], steps=DEFAULT_STEPS):
        pass
    share = clocked.seconds / (time.process_time() - began_s)
    return plain("windows of a clip: share of time inside backbone and VAE", share, least=INSIDE)


def command(weights: Path) -> list[Measured]:
    """Return the share of the whole command that is spent on windows: with points given, and with a clip to look at."""
    (case,) = crossing(1)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        reference, clip, points = (folder / file for file in ("reference.png", "clip.mp4", "points.npy"))
        _files(case, reference, clip, points)
        given: dict[str, dict[str, Any]] = {
            "with points given": {"skeleton_file": points, "skeleton_fps": 12.0},
            f"of a clip of {CLIP_SIDE_PX} px": {"driving": clip},
        }
        for what, more in given.items():
            progress(f"speed: animate {what}")
            made = animate_files(Order(reference, folder / "out.mp4", weights=weights, prompt=case.prompt, **more))
            total = sum(made.seconds.values())
            share = made.seconds["backbone and VAE"] / total
            laps = ", ".join(f"{lap} {seconds:.1f} s" for lap, seconds in made.seconds.items())
            rows.append(
                plain(f"`animate` {what}, {made.frames} frames: share in its windows ({laps})", share, least=INSIDE)
            )
    return rows


def _files(case: Case, reference: Path, clip: Path, points: Path) -> None:
    Image.fromarray(render(case.take, 1, 12.0, 64, 64).frames[0]).save(reference)
    seen = render(case.take, CLIP_FRAMES, 12.0, CLIP_SIDE_PX, CLIP_SIDE_PX, samples=1)
    write_mp4(Video(seen.frames, 12.0), clip)
    np.save(points, seen.skeleton)
