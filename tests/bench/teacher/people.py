"""In how many frames does a detector that never saw theatre find a person?"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from PIL import Image

from stages.skeleton import SkeletonConfig
from stages.skeleton_mediapipe import MediaPipe
from tests.bench.teacher.nearness import Frames
from tests.bench.teacher.rows import Measured, progress, row

SIDE_PX: Final = 256
"""To which pictures are enlarged: the detector was made for people of a hundred pixels and more."""
EVERY: Final = 4


def people(told: Mapping[str, Sequence[Frames]]) -> list[Measured]:
    """Return the share of frames, every fourth, in which MediaPipe finds somebody."""
    detector = MediaPipe(SkeletonConfig(tile_share=0))
    rows = []
    for label, clips in told.items():
        progress(f"MediaPipe: {label}")
        shares = [np.mean([len(found) > 0 for found in detector.people(_large(clip[::EVERY]))]) for clip in clips]
        rows.append(row(f"frames in which MediaPipe finds a person, {label}", np.array(shares, float)))
    return rows


def _large(frames: Frames) -> Frames:
    large = [Image.fromarray(frame).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC) for frame in frames]
    return np.stack([np.asarray(each) for each in large])
