"""The blank second in front of the driving video (section 3.3): blanked in training, put in front at inference, cut.

The model's first second has no motion to follow, so it learns to go from the reference's pose to the driving one. Both
training and inference make it with `blank_prefix`; METHOD section 2 says why: a shift by a latent frame is a known bug.

    training      D[0 .. T) of the clip      ->  blank, blank, ..., D[p], ..., D[T - 1]
    inference     D'[0 .. T - p), to follow  ->  blank, blank, ..., D'[0], ..., D'[T - p - 1]     (p blank frames)
    output        V[0 .. T)                  ->  V[p], ..., V[T - 1], one for each frame of D'

Only PIXELS are cut. With p a multiple of 4, frame p is the last of the four behind latent frame p / 4, so that there is
no latent frame at which the output begins.
"""

import torch
from torch import Tensor

from model.composite import CompositeError, blank_value, check_video


def blank_prefix(driving: Tensor, prefix_frames: int, blank: str = "grey") -> Tensor:
    """Return a copy of `driving` `[B, 3, T, H, W]`, in [-1, 1], whose first `prefix_frames` frames are blank.

    The number of frames stays T. None is blank at 0, all are at T (a sample without a driving signal).

    Raises:
        CompositeError: More frames than there are, fewer than 0, or no such blank (`composite.BLANK`).
    """
    check_video(driving)
    if not 0 <= prefix_frames <= driving.shape[2]:
        raise CompositeError(
            f"prefix_frames is {prefix_frames} and the driving video has {driving.shape[2]} frames; "
            f"it must be between 0 and {driving.shape[2]}"
        )
    blanked = driving.clone()
    blanked[:, :, :prefix_frames] = blank_value(blank)
    return blanked


def with_prefix(driving: Tensor, prefix_frames: int, blank: str = "grey") -> Tensor:
    """Return `driving` `[B, 3, T', H, W]`, in [-1, 1], behind a blank prefix: `[B, 3, T' + prefix_frames, H, W]`.

    For inference: T' + prefix_frames is the T of the geometry.

    Raises:
        CompositeError: A negative number of frames, or no such blank.
    """
    check_video(driving)
    front = driving[:, :, :1].repeat_interleave(max(0, prefix_frames), dim=2)  # of any content: it is blanked
    return blank_prefix(torch.cat([front, driving], dim=2), prefix_frames, blank)


def cut_prefix(video: Tensor, prefix_frames: int) -> Tensor:
    """Return the frames after the prefix (a view): PIXELS `[B, C, T, H, W]` to `[B, C, T - prefix_frames, H, W]`.

    Raises:
        CompositeError: Nothing would be left, or a negative number of frames.
    """
    if not 0 <= prefix_frames < video.shape[2]:
        raise CompositeError(
            f"a prefix of {prefix_frames} frames cannot be cut from a video of {video.shape[2]}; "
            f"prefix_frames must be between 0 and {video.shape[2] - 1}"
        )
    return video[:, :, prefix_frames:]
