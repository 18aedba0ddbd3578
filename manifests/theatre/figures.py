"""Figures by name, and how they perform a motion.

A name, `human-012`, is a kind and a number, from which everything about the figure is drawn. Numbers from 900 on are
held out; they wear pairs of colours that no other figure wears.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from manifests.theatre import creatures
from manifests.theatre.creatures import creature, leg_m, moved
from manifests.theatre.humans import average, bent, human
from manifests.theatre.motion import Figure, Motion, Performance
from manifests.theatre.names import UnknownName, numbered, numbers
from manifests.theatre.points import COUNT, Markers
from manifests.theatre.rig import Pose, Rig, pose

KINDS: Final = ("human", *creatures.KINDS)


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
    feet on the ground. What is not human keeps the average human's clearance instead of its height
    (`creatures.moved`), and has its points, scaled by the ratio of their leg lengths about the origin.

    Raises:
        UnknownName: The figure is none of `names`.
    """
    made = _made(figure.name)
    given = np.ones(COUNT, np.bool_)
    if made.markers is not None:
        posed = _posed(made.rig, motion, figure.leg_m)
        return Performance(posed.carry(made.rig.vertices, made.rig.bone), made.markers.carried(posed), given)
    driver = average()
    driver_leg_m = _human_leg_m(driver.rig)
    posed = _posed(driver.rig, motion, driver_leg_m)
    lowest_m = posed.carry(driver.rig.vertices, driver.rig.bone)[..., 1].min(axis=1)
    vertices = moved(figure.kind, made.rig, motion, np.maximum(lowest_m, 0) / np.float32(driver_leg_m))
    return Performance(vertices, driver.markers.carried(posed) * np.float32(figure.leg_m / driver_leg_m), given)


def _posed(rig: Rig, motion: Motion, leg_m: float) -> Pose:
    """Return the pose of a human rig."""
    return pose(rig, bent(rig.joints, motion.rotations, motion.curl), motion.translation * np.float32(leg_m))


def _human_leg_m(rig: Rig) -> float:
    return rig.length("left_hip", "left_knee", "left_ankle")


@lru_cache(maxsize=256)
def _made(name: str) -> _Made:
    kind, number = numbered(name, KINDS, "figure")
    if kind == "human":
        made = human(name, number)
        return _Made(_figure(name, kind, made.rig, _human_leg_m(made.rig)), made.rig, made.markers)
    rig = creature(name, kind, number)
    return _Made(_figure(name, kind, rig, leg_m(rig)), rig, None)


def _figure(name: str, kind: str, rig: Rig, leg_m: float) -> Figure:
    vertices = rig.vertices + rig.places()[rig.bone]
    for array in (vertices, rig.faces, rig.part):
        array.setflags(write=False)  # it is handed to everybody who asks for this name
    return Figure(name, kind, vertices, rig.faces, rig.part, rig.paints, leg_m, float(vertices[:, 1].max()))
