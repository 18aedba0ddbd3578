"""Legs that stand where they are told to: hip, knee, ankle and ball from where pelvis and feet are.

All lengths are in leg lengths, along the bones of the average person; they scale with the figure. Where a figure's hips
are wider, its feet stand wider.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from manifests.theatre import rotations as turn
from manifests.theatre.rotations import Quaternions, Vectors

# the left leg at rest; the right one is its mirror image
_HIP: Final = np.array([0.0776, -0.1256, -0.0302])  # from the pelvis
_THIGH: Final = np.array([0.0632, -0.4733, -0.0167])
_SHIN: Final = np.array([-0.0376, -0.5197, -0.0333])
_BALL: Final = np.array([0.055, -0.0743, 0.1515])  # from the ankle
_HEEL: Final = np.array([0.0, -0.0985, -0.06])
ANKLE: Final = _HIP + _THIGH + _SHIN
"""The left ankle from the pelvis, at rest."""
MIRROR: Final = np.array([-1.0, 1.0, 1.0])

_STRAIGHT: Final = 0.985  # of the longest reach: a knee that is never quite stretched does not snap
_KNEE_MAX_RAD: Final = 2.5


@dataclass
class Foot:
    """Where one foot is: `place` `[T, 3]` its shift from rest in the world; `yaw` `[T]` rad, to the figure's left;
    `pitch` `[T]` rad, above 0 with the heel lifted and the ball where it was, below 0 standing on the heel."""

    place: Vectors
    yaw: Vectors
    pitch: Vectors

    def flat(self) -> Quaternions:
        return turn.about(turn.Y, self.yaw)

    def ankle(self, side: int) -> Vectors:
        """Return `[T, 3]` where the ankle is, from the pelvis at rest; `side` is 1 on the left, -1 on the right."""
        mirror = MIRROR if side < 0 else np.ones(3)
        pivot = np.where(self.pitch[:, None] > 0, _BALL * mirror, _HEEL * mirror)
        lifted = pivot - turn.rotate(turn.about(turn.X, self.pitch), pivot)
        return np.asarray(ANKLE * mirror + self.place + turn.rotate(self.flat(), lifted))


def _reach() -> tuple[float, float, float, float]:
    """Return (least, C, M, phi): the squared distance hip to ankle is C + M cos(knee - phi)."""
    even = 2 * (_THIGH[1] * _SHIN[1] + _THIGH[2] * _SHIN[2])
    odd = 2 * (_THIGH[2] * _SHIN[1] - _THIGH[1] * _SHIN[2])
    middle = _THIGH @ _THIGH + _SHIN @ _SHIN + 2 * _THIGH[0] * _SHIN[0]
    swing, phi = float(np.hypot(even, odd)), float(np.arctan2(odd, even))
    return float(np.sqrt(middle + swing * np.cos(_KNEE_MAX_RAD - phi))), float(middle), swing, phi


_LEAST, _MIDDLE, _SWING, _PHI = _reach()
_MOST: Final = _STRAIGHT * float(np.sqrt(_MIDDLE + _SWING))


def height(pelvis: Quaternions, place: Vectors, feet: dict[int, Foot]) -> Vectors:
    """Return `[T]`, the greatest shift up of the pelvis at which both legs reach their feet, with `place` `[T, 3]` its
    shift; where a foot is too far aside, as high as a leg can be at its flattest."""
    most = []
    for side, foot in feet.items():
        hip = place + turn.rotate(pelvis, _HIP * (MIRROR if side < 0 else np.ones(3)))
        gap = hip - foot.ankle(side)
        aside = gap[:, 0] ** 2 + gap[:, 2] ** 2
        most.append(np.sqrt(np.maximum(_MOST**2 - aside, 0.04)) - gap[:, 1] + place[:, 1])
    return np.minimum(*most)


def joints(pelvis: Quaternions, place: Vectors, foot: Foot, side: int) -> dict[str, Quaternions]:
    """Return local turns `[T, 4]` of `hip`, `knee`, `ankle` and `foot` of one leg.

    Two bones of given lengths meet the ankle in one way once the knee's axis is chosen: across the foot, so that the
    knee bends over the toes.
    """
    mirror = MIRROR if side < 0 else np.ones(3)
    to = foot.ankle(side) - place - turn.rotate(pelvis, _HIP * mirror)
    far = np.linalg.norm(to, axis=1)
    reach = np.clip(far, _LEAST, _MOST)
    knee = _PHI + np.arccos(np.clip((reach**2 - _MIDDLE) / _SWING, -1, 1))
    bend = turn.about(turn.X, knee)
    leg = _THIGH * mirror + turn.rotate(bend, _SHIN * mirror)
    across = turn.rotate(foot.flat(), turn.X)
    hip = turn.from_matrices(_frame(to, across) @ _frame(leg, np.tile(turn.X, (len(leg), 1))).transpose(0, 2, 1))
    flat = turn.multiply(foot.flat(), turn.about(turn.X, foot.pitch))
    return {
        "hip": turn.multiply(turn.inverse(pelvis), hip),
        "knee": bend,
        "ankle": turn.multiply(turn.inverse(turn.multiply(hip, bend)), flat),
        "foot": turn.about(turn.X, -np.clip(foot.pitch, 0, 0.8)),
    }


def _frame(along: Vectors, across: Vectors) -> Vectors:
    """Return `[T, 3, 3]` whose columns are orthonormal: along `along`, nearest to `across`, and square to both."""
    first = along / np.linalg.norm(along, axis=1, keepdims=True)
    second = across - first * (first * across).sum(axis=1, keepdims=True)
    second = second / np.linalg.norm(second, axis=1, keepdims=True)
    return np.stack([first, second, np.cross(first, second)], axis=-1)
