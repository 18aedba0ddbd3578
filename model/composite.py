"""The composite and its mask: two videos in one, so that the base needs no new module (METHOD section 1; Eq. 2).

    C[0] = I (+) D[0]        C[t] = 0 (+) D[t]  for t > 0        M = M_r (+) M_m

`(+)` joins two halves: the motion on the right; on the left the reference or, in what is to be made, the target. `AXIS`
is the one place that says along what. It is counted from the end (`... T H W`), so that pixels, latents, masks and
packed masks are joined and parted by the same three functions. `W` and `w` are widths of ONE half.
"""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from manifests.errors import UserError
from model.geometry import Geometry, Strides

AXIS: Final = -1
"""Halves lie side by side, along the width. Along time it would be -3: nothing else here changes, but as 2T frames are
not 4k + 1, each half is then encoded and packed as a video of its own, and the two are joined afterwards."""

BLANK: Final = {"grey": 0.0, "black": -1.0}
"""What the "0" of Eq. 2 looks like, in [-1, 1]: grey, because Wan fills unknown frames so."""


class CompositeError(UserError):
    """Two halves do not fit together, or a video does not fit where it is put."""


def join(left_half: Tensor, right_half: Tensor) -> Tensor:
    """Return `left_half (+) right_half`, both `[..., T, H, W]`, as `[..., T, H, 2W]`.

    Raises:
        CompositeError: The halves differ in shape.
    """
    if left_half.shape != right_half.shape:
        raise CompositeError(
            f"the halves of a composite are {list(left_half.shape)} and {list(right_half.shape)}; "
            "they must have one shape: bring both to the same size and number of frames"
        )
    return torch.cat([left_half, right_half], dim=AXIS)


def left(x: Tensor) -> Tensor:
    """Return the left half (a view): reference, target, or what was generated. `[..., 2W]` to `[..., W]`."""
    return _halves(x)[0]


def right(x: Tensor) -> Tensor:
    """Return the right half (a view): the motion. `[..., 2W]` to `[..., W]`."""
    return _halves(x)[1]


def composite(reference: Tensor, driving: Tensor, blank: str = "grey") -> Tensor:
    """Return what the model is given: C of Eq. 2, `[B, 3, T, H, 2W]` in [-1, 1].

    Args:
        reference: I, `[B, 3, H, W]` in [-1, 1].
        driving: D, `[B, 3, T, H, W]` in [-1, 1].
        blank: What "0" is, a key of `BLANK`.

    Raises:
        CompositeError: Sizes differ, pixels are no floats, or there is no such blank.
    """
    check_video(driving)
    if reference.shape != driving[:, :, 0].shape:
        raise CompositeError(
            f"the reference is {list(reference.shape)} and the driving video {list(driving.shape)}; wanted "
            "[B, 3, H, W] and [B, 3, T, H, W] of one size: crop or scale the reference to the video's"
        )
    identity = torch.full_like(driving, blank_value(blank))
    identity[:, :, 0] = reference
    return join(identity, driving)


def joined(target: Tensor, driving: Tensor) -> Tensor:
    """Return what the model is to make: V (+) D, both `[B, 3, T, H, W]` in [-1, 1], as `[B, 3, T, H, 2W]`.

    Encoded as one video, because halves that are encoded apart give other latents in every column.

    Raises:
        CompositeError: Sizes differ, or pixels are no floats.
    """
    check_video(target)
    check_video(driving)
    return join(target, driving)


def mask(frames: int, height_px: int, width_px: int) -> Tensor:
    """Return M = M_r (+) M_m, `[1, 1, T, H, 2W]` float32: 1 where the composite is given, 0 where it is blank.

    M_r is 1 in frame 0 alone; M_m is 1 in every frame, those of the blank prefix too: they are given as blank.
    """
    motion = torch.ones(1, 1, frames, height_px, width_px)
    identity = torch.zeros_like(motion)
    identity[:, :, 0] = 1.0
    return join(identity, motion)


def loss_mask(geometry: Geometry) -> Tensor:
    """Return where the error counts, `[1, 1, F, h, 2w]` float32: 1 on the left, what is to be made; 0 on the right."""
    half = torch.ones(1, 1, geometry.latent_frames, geometry.latent_height, geometry.latent_width)
    return join(half, torch.zeros_like(half))


def _by_frame(pixels: Tensor, strides: Strides) -> Tensor:
    """Pack as Wan does: one channel for each of the frames behind a latent frame, `[B, s, F, h, w]`.

    Frame 0 is repeated s times, the others stay as they are, viewed as (F, s), and transposed to s channels (s is the
    temporal stride, 4). As `WanImageToVideoPipeline.prepare_latents` of diffusers does.
    """
    cells, stride = _to_cells(pixels, strides), strides.temporal_stride
    first = cells[:, :, :1].repeat_interleave(stride, dim=2)
    frames = torch.cat([first, cells[:, :, 1:]], dim=2)
    return frames.reshape(len(frames), -1, stride, *frames.shape[3:]).transpose(1, 2)


def _by_latent_frame(pixels: Tensor, strides: Strides) -> Tensor:
    """Pack as HunyuanVideo-1.5 does: one channel, `[B, 1, F, h, w]`, 1 where all frames behind it are given.

    As `HunyuanVideo15ImageToVideoPipeline.prepare_cond_latents_and_mask` of diffusers does, which knows frame 0 alone.
    """
    return _by_frame(pixels, strides).amin(dim=1, keepdim=True)


PACKINGS: Final[dict[str, Callable[[Tensor, Strides], Tensor]]] = {"wan": _by_frame, "hunyuan": _by_latent_frame}
"""How a base wants the mask: `[B, 1, T, H, W']` in pixels, of any width (a half or a composite), to `[B, M, F, h, w']`.

The second argument has the strides: a `Geometry` or a `BackboneSpec`. Each latent cell takes the value of its first
pixel (nearest). A CompositeError says that the sizes do not fit the strides. In what order noise, mask and condition
are joined is the backbone's own affair: `BackboneSpec.channels`.
"""


def blank_value(blank: str) -> float:
    """Return the pixel value of a blank, in [-1, 1].

    Raises:
        CompositeError: There is no such blank.
    """
    if blank not in BLANK:
        raise CompositeError(f"blank is {blank!r}; it must be one of {', '.join(BLANK)}")
    return BLANK[blank]


def check_video(video: Tensor) -> None:
    """Refuse what is no video `[B, 3, T, H, W]` of float pixels with at least one frame.

    Raises:
        CompositeError: Says what was found.
    """
    if video.dim() != 5 or video.shape[1] != 3 or not video.shape[2] or not video.is_floating_point():
        raise CompositeError(
            f"a video is {list(video.shape)} of {video.dtype}; wanted [B, 3, T, H, W] of floats in [-1, 1], T above 0"
        )


def _halves(x: Tensor) -> tuple[Tensor, Tensor]:
    if x.shape[AXIS] % 2:
        raise CompositeError(f"{list(x.shape)} has no halves: dimension {AXIS} is odd; give a whole composite")
    first, second = x.chunk(2, dim=AXIS)
    return first, second


def _to_cells(pixels: Tensor, strides: Strides) -> Tensor:
    """Return the first pixel of each latent cell: `[B, 1, T, H, W]` to `[B, 1, T, h, w]`."""
    space, time = strides.spatial_stride, strides.temporal_stride
    fits = pixels.dim() == 5 and pixels.shape[1] == 1 and pixels.shape[2] % time == 1 % time
    if not fits or pixels.shape[3] % space or pixels.shape[4] % space:
        raise CompositeError(
            f"a mask is {list(pixels.shape)}; wanted [B, 1, T, H, W] in pixels with T = {time}k + 1 and "
            f"H and W multiples of {space}"
        )
    return pixels[..., ::space, ::space]
