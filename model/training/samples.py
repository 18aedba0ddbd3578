"""Sheets of samples while training: what the model makes of held-out clips, beside what it should make."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from model.animate import animate
from model.backbone import Backbone
from model.composite import left, right
from model.geometry import Geometry
from model.sampler import Guidance
from model.skeleton import Pixels
from model.training.clips import Clips
from model.training.examples import Augment, example

_GAP_PX = 2


@torch.no_grad()
def samples(
    backbone: Backbone,
    clips: Clips,
    geometry: Geometry,
    numbers: Sequence[int],
    *,
    steps: int = 12,
    guidance: Guidance | None = None,
    blank: str = "grey",
) -> tuple[Tensor, Tensor, Tensor]:
    """Return driving, what the model makes, and the truth, each `[B, 3, T, H, W]`, of clips that drive themselves.

    `blank` is what "nothing" looked like in training (`Augment.blank`).
    """
    plain = Augment(bone_share=0.0, nudge_share=0.0, drop_driving=0.0, drop_reference=0.0, blank=blank)
    made = [example(clips.clip(n), geometry, plain, np.random.default_rng(0)) for n in numbers]
    device = next(backbone.transformer.parameters()).device
    wanted = torch.cat([each.wanted for each in made]).to(device)
    reference = torch.cat([each.reference for each in made]).to(device)
    driving, prompts = right(wanted), [each.prompt for each in made]
    got = animate(
        backbone, reference, driving, prompts, seeds=list(numbers), steps=steps, guidance=guidance, blank=blank
    )
    return driving, got, left(wanted)


def sheet(rows: Sequence[Tensor], geometry: Geometry, tiles: int = 8, scale: int = 2) -> Image.Image:
    """Lay videos `[B, 3, T, H, W]` out, B blocks of one line for each of `rows`, with `tiles` frames of the whole clip.

    A thin line stands in front of the first frame after the prefix.
    """
    times = np.linspace(0, geometry.frames - 1, tiles).round().astype(int)
    begins = int(np.searchsorted(times, geometry.prefix_frames)) if geometry.prefix_frames else 0
    height, width = geometry.height_px, geometry.width_px
    blocks = rows[0].shape[0]
    canvas = np.full(
        (blocks * (len(rows) * (height + _GAP_PX) + 3 * _GAP_PX), tiles * (width + _GAP_PX), 3), 90, np.uint8
    )
    for block in range(blocks):
        for line, videos in enumerate(rows):
            top = block * (len(rows) * (height + _GAP_PX) + 3 * _GAP_PX) + line * (height + _GAP_PX)
            frames = to_uint8(videos[block])
            for column, time in enumerate(times):
                start = column * (width + _GAP_PX)
                canvas[top : top + height, start : start + width] = frames[time]
                if column == begins > 0:
                    canvas[top : top + height, start - _GAP_PX : start] = 255
    whole = Image.fromarray(canvas)
    return whole.resize((whole.width * scale, whole.height * scale), Image.Resampling.NEAREST)


def to_uint8(video: Tensor) -> Pixels:
    """Return a video `[3, T, H, W]` in [-1, 1] as uint8 `[T, H, W, 3]`."""
    levels = ((video.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return np.ascontiguousarray(levels.permute(1, 2, 3, 0).cpu().numpy())
