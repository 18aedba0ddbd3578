"""The driving video of stage two, varied so that look and place cannot be copied from it (METHOD sections 3 and 5).

A driving video of raw RGB shows a body, a build and colours that are not the reference's, or, where the pseudo video
failed, that are too much like them. One draw a clip crops it, stretches it, and turns its colours; the target is left
as it is, and so is the motion: nothing is mirrored, cut in time or drawn anew from frame to frame.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from manifests.errors import UserError
from model.framing import Framing, framing_of
from model.skeleton import Pixels

VERSION: Final = "1"
"""Of what is drawn from the same numbers: a new one makes other driving videos."""
_DRAWS: Final = 10
_LUMA: Final = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as the project's films are stored


class DrivingAugmentError(UserError):
    """A value cannot be used; the message names the field."""


@dataclass(frozen=True)
class DrivingAugment:
    """How much a driving video is varied; all of it is ours, and 0 (or 1, of `stretch`) switches a part off.

    Attributes:
        share: Share of clips that are varied at all.
        crop: Most that is cut off, as a share of the width, and as one of the height.
        stretch: Greatest factor between width and height, either way.
        brightness, contrast, saturation: Most that each is raised or lowered by, as a share.
        hue_deg: Most that colours are turned by, either way.
    """

    share: float = 0.8
    crop: float = 0.15
    stretch: float = 1.25
    brightness: float = 0.15
    contrast: float = 0.2
    saturation: float = 0.4
    hue_deg: float = 20.0

    def __post_init__(self) -> None:
        """Refuse values that leave nothing of a video."""
        for name in ("share", "brightness", "contrast", "saturation"):
            _require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "from 0 to 1")
        _require(0 <= self.crop < 0.9, "crop", self.crop, "0 or more and below 0.9")
        _require(1 <= self.stretch <= 4, "stretch", self.stretch, "from 1 to 4")
        _require(0 <= self.hue_deg <= 180, "hue_deg", self.hue_deg, "from 0 to 180")


@dataclass(frozen=True)
class Variation:
    """What is done to every frame of one clip.

    Attributes:
        box: Left, top, right and bottom of what is kept, as shares of width and height.
        stretch: Factor of the width over that of the height.
        colour: `[3, 4]` from red, green, blue (0..255) and 1 to new ones.
    """

    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    stretch: float = 1.0
    colour: tuple[float, ...] | None = None

    def framed(self, frames: Pixels, height_px: int, width_px: int) -> Pixels:
        """Return frames, uint8 `[T, h, w, 3]`, varied and in a frame of the model's size, `[T, H, W, 3]`."""
        height, width = frames.shape[1:3]
        left, top, right, bottom = (round(a * b) for a, b in zip(self.box, (width, height) * 2, strict=True))
        kept = frames[:, top : max(bottom, top + 1), left : max(right, left + 1)]
        framing = self._framing(kept.shape[1], kept.shape[2], height_px, width_px)
        return np.stack([self._coloured(framing.fitted(frame)) for frame in kept])

    def _framing(self, height: int, width: int, height_px: int, width_px: int) -> Framing:
        side = math.sqrt(self.stretch)
        shape = max(1, round(height / side)), max(1, round(width * side)), 3
        return framing_of(np.broadcast_to(np.uint8(0), shape), height_px, width_px)

    def _coloured(self, frame: Pixels) -> Pixels:
        if self.colour is None:
            return frame
        return np.asarray(Image.fromarray(frame).convert("RGB", self.colour))


def drawn(augment: DrivingAugment, rng: np.random.Generator) -> Variation:
    """Draw one clip's variation: always the same number of draws in the same order."""
    u = rng.random(_DRAWS)
    if u[0] >= augment.share:
        return Variation()
    keeps = 1 - augment.crop * u[1:3]
    left, top = (1 - keeps) * u[3:5]
    stretch = augment.stretch ** (2 * u[5] - 1)
    either = 2 * u[6:10] - 1  # -1 to 1
    most = augment.brightness, augment.contrast, augment.saturation
    brightness, contrast, saturation = (1 + either[:3] * most).tolist()
    colour = colour_matrix(brightness, contrast, saturation, float(either[3]) * augment.hue_deg)
    box = float(left), float(top), float(left + keeps[0]), float(top + keeps[1])
    return Variation(box, float(stretch), colour)


def colour_matrix(brightness: float, contrast: float, saturation: float, hue_deg: float) -> tuple[float, ...]:
    """Return `[3, 4]`, row by row, from (red, green, blue, 1) to new colours, all 0..255.

    Hue turns colours around the axis of greys (Rodrigues' formula), saturation moves them away from their own luma,
    contrast away from mid-grey, brightness multiplies. Greys keep their hue, and 1, 1, 1, 0 changes nothing.
    """
    axis, angle = np.full(3, 1 / math.sqrt(3)), math.radians(hue_deg)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turned = math.cos(angle) * np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * np.outer(axis, axis)
    vivid = saturation * np.eye(3) + (1 - saturation) * np.tile(_LUMA, (3, 1))
    matrix = brightness * contrast * (vivid @ turned)
    shift = np.full((3, 1), brightness * 127.5 * (1 - contrast))
    return tuple(np.concatenate([matrix, shift], axis=1).ravel().tolist())


def _require(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        raise DrivingAugmentError(f"data.driving.{name}: is {value!r}; it must be {wanted}")
