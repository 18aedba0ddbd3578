"""A clip becomes an example of stage one: what is given, and what is to be reconstructed (section 3.3).

Self-reconstruction: the reference is the clip's first frame, the driving half its own skeleton, with bones of another
body in a share of the examples (so that shape is not copied from it), placed as the base wants it
(`model/placement.py`), blank for the first `prefix_frames`.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.bones import draw_factors, scale_bones
from model.composite import composite, joined
from model.driving import blank_prefix
from model.geometry import Geometry
from model.placement import nudged, placed
from model.skeleton import Pixels, Points, frames_of
from model.training.clips import Clip


@dataclass(frozen=True)
class Augment:
    """How examples are varied; each is one of the paper's or ours, so that it can be ablated.

    Attributes:
        bone_share: Share of examples whose bones are scaled (paper: 30 %).
        bone_low: Least factor of a segment (paper: 0.8).
        bone_high: Greatest factor of a segment (paper: 1.2).
        drop_driving: Share of examples without any driving signal, for guidance (ours).
        drop_reference: Share of examples without a reference (ours).
        blank: What "nothing" looks like: `grey` (0.0) or `black` (-1.0) (ours).
        nudge_share: Share of examples whose skeleton stands a little beside its figure, where it is `aligned` (ours).
        nudge_scale: It is larger or smaller by at most this factor.
        nudge_shift: And beside it by at most this share of the picture, in each direction.
    """

    bone_share: float = 0.3
    bone_low: float = 0.8
    bone_high: float = 1.2
    drop_driving: float = 0.1
    drop_reference: float = 0.05
    blank: str = "grey"
    nudge_share: float = 0.3
    nudge_scale: float = 1.15
    nudge_shift: float = 0.06


@dataclass(frozen=True)
class Example:
    """Pixels of one example: float `[1, 3, T, H, 2W]` in [-1, 1] each, and `[1, 3, H, W]`.

    Attributes:
        given: The composite, Eq. 2.
        wanted: Target and driving joined.
        reference: The reference alone, for backbones that embed it.
        prompt: The clip's text.
    """

    given: Tensor
    wanted: Tensor
    reference: Tensor
    prompt: str


def pixels(frames: Pixels) -> Tensor:
    """Return uint8 `[T, H, W, 3]` as float32 `[1, 3, T, H, W]` in [-1, 1]."""
    return torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1.0


def driving_frames(skeleton: Points, geometry: Geometry, reference: Points | None = None) -> Pixels:
    """Draw a skeleton `[T, P, 133, 3]` as the driving half shows it, uint8 `[T, H, W, 3]`; `reference` `[P, 133, 3]`
    are the figures it is aligned with, where they are known, px of the half."""
    return frames_of(placed(skeleton, geometry, reference), geometry.height_px, geometry.width_px)


def example(clip: Clip, geometry: Geometry, augment: Augment, rng: np.random.Generator) -> Example:
    """Make one example. Its augmentations are drawn from `rng`, always the same number of draws in the same order."""
    scaled, undriven, unseen = rng.random(3) < (augment.bone_share, augment.drop_driving, augment.drop_reference)
    factors = draw_factors(rng, augment.bone_low, augment.bone_high)
    skeleton = scale_bones(clip.skeleton, factors) if scaled else clip.skeleton
    driving = pixels(_own_driving(skeleton, geometry, augment, rng))
    driving = blank_prefix(driving, geometry.frames if undriven else geometry.prefix_frames, augment.blank)
    target = pixels(clip.frames)
    return assembled(target[:, :, 0], target, driving, clip.prompt, bool(unseen), augment.blank)


def _own_driving(skeleton: Points, geometry: Geometry, augment: Augment, rng: np.random.Generator) -> Pixels:
    """Draw the skeleton of the target itself: aligned as it is, it is only nudged."""
    if geometry.placement == "fitted":
        return driving_frames(skeleton, geometry)
    size_px = (geometry.width_px, geometry.height_px)
    share, scale, right, down = rng.random(4)
    if share < augment.nudge_share:
        shift = augment.nudge_shift * (2 * np.array([right, down]) - 1) * size_px
        skeleton = nudged(skeleton, augment.nudge_scale ** (2 * scale - 1), (float(shift[0]), float(shift[1])), size_px)
    return frames_of(skeleton, geometry.height_px, geometry.width_px)


def assembled(reference: Tensor, target: Tensor, driving: Tensor, prompt: str, unseen: bool, blank: str) -> Example:
    """Return the example of a reference `[1, 3, H, W]`, blank if it is to be `unseen`, and two videos of one size,
    `[1, 3, T, H, W]`, the driving one blanked already."""
    if unseen:
        reference = blank_prefix(reference[:, :, None], 1, blank)[:, :, 0]
    return Example(composite(reference, driving, blank), joined(target, driving), reference, prompt)
