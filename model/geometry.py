"""Pixels to latent cells to tokens: which sizes there are, and how many of everything a clip of that size makes.

A video VAE that is causal in time turns T = 4k + 1 frames into F = k + 1 latent frames: frame 0 alone makes latent
frame 0, and each four frames after it one more (4 is `temporal_stride`; METHOD section 6).
"""

from dataclasses import dataclass
from typing import Final, Literal, Protocol

from manifests.errors import UserError


class GeometryError(UserError):
    """A size does not fit the strides of the base; the message names the nearest that does."""


class Strides(Protocol):
    """How many pixels and frames make one latent cell: what `Geometry` and `BackboneSpec` have in common."""

    @property
    def spatial_stride(self) -> int: ...

    @property
    def temporal_stride(self) -> int: ...


Placement = Literal["fitted", "aligned"]
"""Where the driving skeleton stands in its half (`model/placement.py`): fitted into it by its box, as in the paper, or
where the figure of the reference stands (ours)."""

_COUNTS: Final = ("height_px", "width_px", "frames", "fps", "spatial_stride", "temporal_stride")


@dataclass(frozen=True)
class Geometry:
    """The size of a clip, in pixels, latent cells and tokens; of one half of the composite if not said otherwise.

    Attributes:
        height_px: Height of the picture.
        width_px: Width of ONE half; the composite is twice as wide.
        frames: T, with the prefix: a whole number k of temporal strides, and one frame.
        prefix_frames: Blank driving frames in front, part of T and cut from the output; a multiple of the temporal
            stride, so that the output too has 4k + 1 frames.
        fps: Frames a second.
        spatial_stride: Pixels a latent cell, in height and width.
        temporal_stride: Frames a latent frame, after the first.
        patch: Latent cells a token: time, height, width.
        placement: Where the driving skeleton stands in its half.

    Raises:
        GeometryError: A size does not fit. Each half must be whole tokens wide, so that no token lies across the seam.
    """

    height_px: int
    width_px: int
    frames: int
    prefix_frames: int
    fps: int
    spatial_stride: int = 8
    temporal_stride: int = 4
    patch: tuple[int, int, int] = (1, 2, 2)
    placement: Placement = "fitted"

    def __post_init__(self) -> None:
        for name in _COUNTS:
            _require_count(name, getattr(self, name), least=1)
        if len(self.patch) != 3:
            raise GeometryError(f"patch is {self.patch!r}; it must be three numbers: time, height, width")
        for cells in self.patch:
            _require_count("patch", cells, least=1)
        _require_count("prefix_frames", self.prefix_frames, least=0)
        self._check_sides()
        self._check_time()

    @property
    def latent_frames(self) -> int:
        """F = (T - 1) / temporal stride + 1."""
        return (self.frames - 1) // self.temporal_stride + 1

    @property
    def latent_height(self) -> int:
        """h, latent cells."""
        return self.height_px // self.spatial_stride

    @property
    def latent_width(self) -> int:
        """w of ONE half, latent cells."""
        return self.width_px // self.spatial_stride

    @property
    def composite_latent_width(self) -> int:
        """2w, latent cells."""
        return 2 * self.latent_width

    @property
    def composite_width_px(self) -> int:
        """2W, pixels."""
        return 2 * self.width_px

    @property
    def output_frames(self) -> int:
        """Frames that are left when the prefix is cut."""
        return self.frames - self.prefix_frames

    @property
    def tokens(self) -> int:
        """Tokens of the composite, over which the transformer attends: 65,520 at 480 x 832 and 81 frames."""
        time, height, width = self.patch
        rows, columns = self.latent_height // height, self.composite_latent_width // width
        return self.latent_frames // time * rows * columns

    def _check_sides(self) -> None:
        for name, side_px, cells in (
            ("height_px", self.height_px, self.patch[1]),
            ("width_px", self.width_px, self.patch[2]),
        ):
            step = self.spatial_stride * cells
            if side_px % step:
                raise GeometryError(
                    f"{name} is {side_px}; it must be a multiple of {step} "
                    f"({self.spatial_stride} px a latent cell, {cells} cells a token); {_nearest(side_px, step, step)}"
                )

    def _check_time(self) -> None:
        stride, prefix = self.temporal_stride, self.prefix_frames
        if prefix % stride:
            raise GeometryError(
                f"prefix_frames is {prefix}; it must be a multiple of the temporal stride {stride}; "
                f"{_nearest(prefix, stride, 0)}"
            )
        step = stride * self.patch[0]
        offset = step - stride + 1  # the fewest frames that make one token in time
        least = offset + -(-max(0, prefix + 1 - offset) // step) * step
        if (self.frames - offset) % step:
            raise GeometryError(
                f"frames is {self.frames}; it must be {step}k + {offset}, prefix included; "
                f"{_nearest(self.frames, step, least)}"
            )
        if self.frames < least:
            raise GeometryError(
                f"frames is {self.frames} and prefix_frames {prefix}: nothing would be left of the clip; "
                f"give at least {least} frames"
            )


def _require_count(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise GeometryError(f"{name} is {value!r}; it must be a whole number, {least} or more")


def _nearest(value: int, step: int, least: int) -> str:
    """Say which of least, least + step, ... lies nearest to `value`: two of them where it lies half-way."""
    below = max(least, least + (value - least) // step * step)
    above = max(least, below + step)
    if value <= below or value - below < above - value:
        return f"the nearest is {below}"
    return f"the nearest is {above}" if above - value < value - below else f"the nearest are {below} and {above}"
