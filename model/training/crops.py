"""What the small VAE learns from: crops of clips and of drawings of skeletons, and of both across the seam.

Every draw is a pure function of (seed, step), so that a killed training goes on exactly as it would have gone.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from model.bones import normalise
from model.composite import joined
from model.driving import blank_prefix
from model.geometry import Geometry
from model.skeleton import Points, frames_of
from model.training.clips import Clips
from model.training.examples import pixels
from model.training.vae_config import VaeConfig


def crops(config: VaeConfig, clips: Clips, geometry: Geometry, step: int) -> tuple[Tensor, Tensor]:
    """Return the crops of one step, `[B, 3, T, s, s]` in [-1, 1], and their weights `[B, 1, T, s, s]`.

    A crop is taken around a figure, from a drawing of a skeleton (blank in front, as it will be), or over the seam.
    """
    videos, weights = [], []
    batch, frames = config.cut(step)
    for item in range(batch):
        rng = np.random.default_rng([config.seed, step, item])
        clip = clips.clip(int(rng.integers(len(clips))))
        first = int(rng.integers(geometry.frames - frames + 1))
        time = slice(first, first + frames)
        video, figure = pixels(clip.frames[time]), torch.from_numpy(clip.figure[time])
        kind, seam = rng.random(), geometry.width_px
        x = _start(figure[0].any(dim=0), config.crop_px, seam, rng)
        if kind < config.skeleton_share + config.composite_share:
            driving, nowhere = _driving(clip.skeleton, time, geometry, rng), torch.zeros_like(figure)
            if kind < config.skeleton_share:
                video, figure = driving, nowhere
            else:
                video, figure = joined(video, driving), torch.cat([figure, nowhere], dim=-1)
                x = int(rng.integers(seam - config.crop_px + 1, seam))
        y = _start(figure[0].any(dim=1), config.crop_px, geometry.height_px, rng)
        part = (slice(None), slice(y, y + config.crop_px), slice(x, x + config.crop_px))
        videos.append(video[(slice(None), slice(None), *part)])
        weights.append(1.0 + config.figure_weight * figure[part][None, None].float())
    return torch.cat(videos), torch.cat(weights)


def crops_ahead(config: VaeConfig, clips: Clips, geometry: Geometry, step: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the crops of each step from `step` on, and cut the next one's meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        cutting = [pool.submit(crops, config, clips, geometry, step)] if step < config.steps else []
        for following in range(step + 1, config.steps + 1):
            cut = cutting.pop().result()
            if following < config.steps:
                cutting.append(pool.submit(crops, config, clips, geometry, following))
            yield cut


def _driving(skeleton: Points, time: slice, geometry: Geometry, rng: np.random.Generator) -> Tensor:
    """Draw some frames of a driving half; in one of four the first frame is still blank."""
    placed = normalise(skeleton, geometry.height_px, geometry.width_px)[time]
    drawn = pixels(frames_of(placed, geometry.height_px, geometry.width_px))
    return blank_prefix(drawn, int(rng.integers(4) == 0), "grey")


def _start(filled: Tensor, size: int, whole: int, rng: np.random.Generator) -> int:
    """Return the start of a crop of `size` that holds a place drawn from those that are filled."""
    places = filled.nonzero().flatten()
    centre = int(places[int(rng.integers(len(places)))]) if len(places) else int(rng.integers(whole))
    return int(rng.integers(max(0, min(centre - size + 1, whole - size)), max(0, min(centre, whole - size)) + 1))
