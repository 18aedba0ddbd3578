"""Our own motions by name, such as `wave-042`: a family and a number, from which all else is drawn.

A motion has a posture at every moment, so it may start anywhere, last as long as wanted and run at any rate.
"""

import re
from collections.abc import Callable
from typing import Final

from manifests.theatre import arm_acts, body_acts
from manifests.theatre.curves import Curve
from manifests.theatre.looping import Frames
from manifests.theatre.names import numbers, seeded
from manifests.theatre.posture import Posture
from manifests.theatre.standing import RNG

_ARMS: Final = {
    "wave": arm_acts.wave, "reach": arm_acts.reach, "point": arm_acts.point, "circle": arm_acts.circle,
    "box": arm_acts.box, "talk": arm_acts.talk, "flap": arm_acts.flap,
}  # fmt: skip
_LEGS: Final = {
    "squat": body_acts.squat, "march": body_acts.march, "sidestep": body_acts.sidestep, "kick": body_acts.kick,
    "bob": body_acts.bob, "sway": body_acts.sway,
}  # fmt: skip


def combo(rng: RNG, times_s: Curve) -> Posture:
    """The arms and the trunk of one family over the legs of another."""
    upper, lower = str(rng.choice(list(_ARMS))), str(rng.choice(list(_LEGS)))
    above, below = rng.spawn(2)
    return _ARMS[upper](above, times_s).above(_LEGS[lower](below, times_s))


TRAIN: Final[dict[str, Callable[[RNG, Curve], Posture]]] = {
    **_ARMS, **_LEGS, "sit": body_acts.sit, "jack": body_acts.jack, "bow": body_acts.bow, "twist": body_acts.twist,
    "dance": body_acts.dance, "pose": body_acts.pose, "turn": body_acts.turn, "combo": combo,
}  # fmt: skip
"""Families of which the split `train` has numbers (and `held_out` has others)."""
HELD_OUT: Final[dict[str, Callable[[RNG, Curve], Posture]]] = {
    "clap": arm_acts.clap, "conduct": arm_acts.conduct, "stretch": body_acts.stretch, "lunge": body_acts.lunge,
}  # fmt: skip
"""Families that are never trained on, not even in a `combo`."""
FAMILIES: Final = TRAIN | HELD_OUT

_EASY_NOT: Final = frozenset({"turn", "lunge"})
_NAME: Final = re.compile(r"([a-z]+)-([0-9]{3})")


def known(name: str) -> bool:
    """Say whether a motion of ours has this name."""
    match = _NAME.fullmatch(name)
    return match is not None and match[1] in FAMILIES


def at(name: str, times_s: Curve) -> Frames:
    """Return turns `[T, 22, 4]`, translation `[T, 3]` and curl `[T, 2]` of the motion of a known name at `times_s`."""
    family = FAMILIES[name.partition("-")[0]]
    return family(seeded("motion", name), times_s).frames()


def names(split: str, easy: bool = False) -> tuple[str, ...]:
    """Return the names of a split; with `easy`, only of those families that face the front and stay where they are.

    Raises:
        UnknownName: There is no such split.
    """
    known_numbers = numbers(split)
    found = [f"{family}-{number:03d}" for family in TRAIN for number in known_numbers]
    if split == "held_out":
        found += [f"{family}-{number:03d}" for family in HELD_OUT for number in known_numbers]
    return tuple(name for name in found if not (easy and name.partition("-")[0] in _EASY_NOT))
