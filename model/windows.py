"""Clips of any length: the model makes T frames at a time, so a longer clip is made in windows that overlap.

A window gives n = T - prefix frames. It begins anew, with the reference and a blank prefix in which the model brings
the reference into the pose at which the window begins; so nothing of the look can drift from window to window, however
many there are. Two things join a window to the one before:

1. The latent frames that both make are made once: the later window is given those of the earlier one (`Known`), and
   makes the rest of itself to go with them. All windows start from the same noise.
2. In the frames that both show the earlier one is faded out and the later one in, since a decoder that comes from
   elsewhere shows the same latents a little differently. The weights of a frame sum to 1:
   (1 - w_i) earlier + w_i later, w_i = (i + 1) / (v + 1) for i = 0 .. v - 1, of v frames in common.

    frames       0 ........................ 16 ........................ 28      n = 17, temporal stride 4
    window 0     |--------------------------|
    window 1                    12 |--------------------------|                 v = 5, the last 4 of which
                                                                                are one known latent frame

Windows begin at multiples of the temporal stride s, so that a latent frame holds the same s frames in both. About a
quarter of a window overlaps; windows are spread evenly, so that it may be more. A clip that is shorter than a window,
or does not end with a latent frame, is continued by holding its last frame, and what that made is cut.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from manifests.errors import UserError
from model.animate import Animator, Known
from model.backbone import Backbone
from model.composite import left
from model.driving import cut_prefix, with_prefix
from model.geometry import Geometry
from model.sampler import Guidance
from model.skeleton import Pixels
from model.training.examples import pixels
from model.training.samples import to_uint8

OVERLAP_SHARE = 0.25


class WindowError(UserError):
    """A clip cannot be made in windows of this size."""


@dataclass(frozen=True)
class Windows:
    """Where the windows of a clip lie.

    Attributes:
        frames: N, of the clip.
        length: n, frames of a window.
        starts: The first frame of each window, rising.
        stride: Frames a latent frame.
    """

    frames: int
    length: int
    starts: tuple[int, ...]
    stride: int

    @property
    def padded(self) -> int:
        """Frames that the windows make, N or a few more."""
        return self.starts[-1] + self.length

    def known(self, number: int) -> int:
        """Return how many latent frames window `number` is given by the one before it."""
        if number == 0:
            return 0
        return (self.starts[number - 1] + self.length - self.starts[number] - 1) // self.stride


def windows_of(frames: int, geometry: Geometry) -> Windows:
    """Return the windows in which a clip of `frames` frames is made.

    Raises:
        WindowError: There is no frame, or a window is too short to be joined to another.
    """
    length, stride = geometry.output_frames, geometry.temporal_stride
    if frames < 1:
        raise WindowError(f"a clip of {frames} frames was to be made; give at least 1")
    inner = (length - 1) // stride  # latent frames of a window that hold nothing but its own frames
    if frames > length and inner < 1:
        raise WindowError(
            f"a clip of {frames} frames does not fit into one window, and windows of {length} cannot be joined; give "
            f"the backbone at least {geometry.prefix_frames + stride + 1} frames"
        )
    all_inner = max(inner, -(-(frames - 1) // stride))
    handed_on = max(1, round(OVERLAP_SHARE * inner)) if inner > 1 else 0
    count = 1 + -(-(all_inner - inner) // max(1, inner - handed_on))
    steps = [round(number * (all_inner - inner) / max(1, count - 1)) for number in range(count)]
    return Windows(frames, length, tuple(stride * step for step in steps), stride)


@torch.no_grad()
def animate_windows(
    backbone: Backbone,
    geometry: Geometry,
    reference: Pixels,
    driving: Pixels,
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    steps: int = 30,
    guidance: Guidance | None = None,
    shift: float | None = None,
    blank: str = "grey",
    on_step: Callable[[int, int], None] | None = None,
) -> Iterator[Pixels]:
    """Give the frames of clips of any one length in order, as uint8 `[B, t, H, W, 3]` whose t sum to N.

    What of a window is final is given before the next one is begun. A clip of exactly n frames is what
    `model.animate.animate` makes of it.

    Args:
        backbone: The model; all is computed on the device where its transformer lies.
        geometry: Size, frames and prefix of a window.
        reference: uint8 `[B, H, W, 3]`.
        driving: uint8 `[B, N, H, W, 3]`, without a prefix, at the rate of the backbone.
        prompts: One text each.
        seeds: One seed each.
        steps: Of the sampler, a window.
        guidance: By text and by driving; none if it is not given.
        shift: Of sigma; the backbone's if it is not given.
        blank: What "nothing" looks like, as in training.
        on_step: Called after each step with the number of the window, from 0, and of the step, from 1.

    Raises:
        WindowError: There is no frame, or a window is too short to be joined to another.
        SamplerError: The latents are no longer finite.
    """
    windows = windows_of(driving.shape[1], geometry)
    device = next(backbone.transformer.parameters()).device
    animator = Animator(
        backbone, torch.cat([pixels(each[None])[:, :, 0] for each in reference]).to(device), prompts,
        seeds=seeds, steps=steps, guidance=guidance, shift=shift, blank=blank,
    )  # fmt: skip

    def videos() -> Iterator[Tensor]:
        made: Tensor | None = None
        for number, start in enumerate(windows.starts):
            held = np.minimum(np.arange(start, start + windows.length), windows.frames - 1)
            follow = torch.cat([pixels(each[held]) for each in driving]).to(device)
            told = None if on_step is None else (lambda step, _, number=number: on_step(number, step))
            made = animator.latents(
                with_prefix(follow, geometry.prefix_frames, blank),
                known=_handed_on(made, windows.known(number), geometry), on_step=told,
            )  # fmt: skip
            yield cut_prefix(animator.decode(made), geometry.prefix_frames)

    for block in joined(videos(), windows):
        yield np.stack([to_uint8(video) for video in block])


def _handed_on(made: Tensor | None, count: int, geometry: Geometry) -> Known | None:
    """Return what a window is given of the latents of the one before: its last `count` latent frames.

    The first latent frame behind the one that ends with the prefix and the first frame of the window is the first that
    both windows make of the same frames.
    """
    if made is None or not count:
        return None
    return Known(geometry.prefix_frames // geometry.temporal_stride + 1, left(made)[:, :, -count:].clone())


def joined(videos: Iterable[Tensor], windows: Windows) -> Iterator[Tensor]:
    """Fade windows `[B, 3, n, H, W]`, given in their order, into one video, and give it in parts `[B, 3, t, H, W]`
    whose t sum to N. A part is given as soon as no later window shows any of it."""
    tail: Tensor | None = None
    bounds = [*windows.starts, windows.frames]
    for video, (start, after) in zip(videos, pairwise(bounds), strict=True):
        whole = video
        if tail is not None:
            common = tail.shape[2]
            later = (torch.arange(1, common + 1, device=video.device) / (common + 1)).view(1, 1, -1, 1, 1)
            whole = torch.cat([tail + later * (video[:, :, :common] - tail), video[:, :, common:]], dim=2)
        yield whole[:, :, : after - start]
        tail = whole[:, :, after - start :]
