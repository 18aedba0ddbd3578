"""Figures by name, and how they perform a motion.

A name, `human-012`, is a kind and a number, from which everything about the figure is drawn. Numbers from 900 on are
held out; they wear pairs of colours that no other figure wears.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from manifests.theatre.humans import average, bent, human
from manifests.theatre.motion import Array, Figure, Motion, Performance
from manifests.theatre.names import UnknownName, numbered, numbers
from manifests.theatre.points import COUNT, Markers
from manifests.theatre.rig import Rig, pose

KINDS: Final = ("human",)


@dataclass(frozen=True)
class _Made:
    figure: Figure
    rig: Rig
    markers: Markers | None


def names(split: str, kinds: tuple[str, ...] = ("human",)) -> tuple[str, ...]:
    """Return the names of all figures of a split, `train` or `held_out`, of these kinds.

    Raises:
        UnknownName: There is no such split or kind.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise UnknownName(f"there is no kind of figure {kind!r}: give some of {', '.join(KINDS)}")
    return tuple(f"{kind}-{number:03d}" for kind in kinds for number in numbers(split))


def figure(name: str) -> Figure:
    """Return the figure of this name, the same bytes each time.

    Raises:
        UnknownName: There is no such figure.
    """
    return _made(name).figure


def perform(figure: Figure, motion: Motion) -> Performance:
    """Return the figure in a motion.

    The pelvis is shifted by the motion's translation times `leg_m` from where it is at rest, above the origin with the
    feet on the ground.

    Raises:
        UnknownName: The figure is none of `names`.
    """
    made = _made(figure.name)
    shift = motion.translation * np.float32(figure.leg_m)
    moved = pose(made.rig, bent(made.rig.joints, motion.rotations, motion.curl), shift)
    points = made.markers.carried(moved) if made.markers else _of_average(figure, motion)
    return Performance(moved.carry(made.rig.vertices, made.rig.bone), points, np.ones(COUNT, np.bool_))


@lru_cache(maxsize=256)
def _made(name: str) -> _Made:
    _, number = numbered(name, KINDS, "figure")
    made = human(name, number)
    rig = made.rig
    return _Made(_figure(name, "human", rig, rig.length("left_hip", "left_knee", "left_ankle")), rig, made.markers)


def _figure(name: str, kind: str, rig: Rig, leg_m: float) -> Figure:
    vertices = rig.vertices + rig.places()[rig.bone]
    for array in (vertices, rig.faces, rig.part):
        array.setflags(write=False)  # it is handed to everybody who asks for this name
    return Figure(name, kind, vertices, rig.faces, rig.part, rig.paints, leg_m, float(vertices[:, 1].max()))


def _of_average(figure: Figure, motion: Motion) -> Array:
    return np.zeros((len(motion), COUNT, 3), np.float32)


@lru_cache(maxsize=1)
def _average_leg_m() -> float:
    return average().rig.length("left_hip", "left_knee", "left_ankle")
