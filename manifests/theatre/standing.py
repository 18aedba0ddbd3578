"""How somebody stands who does nothing in particular: what every motion of our own begins with, and varies."""

from typing import Final

import numpy as np

from manifests.theatre.curves import Curve, bump, drift, hops, keys, smooth
from manifests.theatre.legs import Foot
from manifests.theatre.posture import Arm, Posture

LEFT: Final = 1
RIGHT: Final = -1
BOTH: Final = (LEFT, RIGHT)
RNG = np.random.Generator


def arm(
    times_s: Curve, lift: Curve | float, towards: Curve | float, elbow: Curve | float, twist: Curve | float = 0.0,
    bend: Curve | float = 0.0, aside: Curve | float = 0.0, curl: Curve | float = 0.3,
) -> Arm:  # fmt: skip
    """Return an arm (see `Arm`), with numbers that do not change for those given as numbers."""
    numbers = (lift, towards, twist, elbow, bend, aside, curl)
    return Arm(*(np.broadcast_to(np.asarray(n, np.float64), times_s.shape).copy() for n in numbers))


def hanging(rng: RNG, times_s: Curve) -> Arm:
    """Return an arm at rest, never quite still."""
    return arm(
        times_s,
        lift=rng.uniform(0.24, 0.42) + drift(rng, times_s, 0.05),
        towards=rng.uniform(0.1, 0.9),
        elbow=rng.uniform(0.12, 0.5) + drift(rng, times_s, 0.06),
        twist=rng.uniform(-0.1, 0.5),
        bend=rng.uniform(-0.05, 0.2),
        curl=rng.uniform(0.1, 0.5),
    )


def on_hip(rng: RNG, times_s: Curve) -> Arm:
    """Return an arm with its hand on the hip."""
    return arm(times_s, rng.uniform(0.8, 0.95), rng.uniform(-0.4, -0.1), rng.uniform(1.5, 1.75), rng.uniform(1.0, 1.25),
               bend=0.5, curl=rng.uniform(0.2, 0.7))  # fmt: skip


def resting(rng: RNG, times_s: Curve) -> Arm:
    """Return an arm that hangs, or now and then one on the hip or before the belly."""
    kind = rng.uniform()
    if kind < 0.65:
        return hanging(rng, times_s)
    if kind < 0.85:
        return on_hip(rng, times_s)
    return arm(times_s, rng.uniform(0.3, 0.5), rng.uniform(0.6, 1.0), rng.uniform(1.1, 1.6), rng.uniform(0.5, 0.8),
               curl=rng.uniform(0.2, 0.6))  # fmt: skip


def standing(rng: RNG, times_s: Curve) -> Posture:
    """Return somebody who stands in their own way: feet, back, head and arms as drawn, never quite still."""
    wide, ahead = rng.uniform(-0.03, 0.13), rng.uniform(-0.06, 0.06)
    still = np.zeros_like(times_s)
    feet = {}
    for side in BOTH:
        place = np.array([side * wide, 0.0, side * ahead])
        feet[side] = Foot(np.tile(place, (len(times_s), 1)), still + side * rng.uniform(-0.1, 0.25), still.copy())
    bow = rng.uniform(-0.05, 0.14)
    pelvis = rows(rng.uniform(-0.03, 0.06) + still, drift(rng, times_s, 0.03),
                  rng.uniform(-0.1, 0.1) + drift(rng, times_s, 0.05))  # fmt: skip
    place = rows(drift(rng, times_s, 0.02), still - rng.uniform(0, 0.02), drift(rng, times_s, 0.015))
    spine = rows(bow + drift(rng, times_s, 0.03), drift(rng, times_s, 0.05), drift(rng, times_s, 0.06))
    head = rows(
        rng.uniform(-0.1, 0.12) - bow / 2 + drift(rng, times_s, 0.08),
        rng.uniform(-0.08, 0.08) + drift(rng, times_s, 0.06),
        drift(rng, times_s, rng.uniform(0.05, 0.4)),
    )
    return Posture(pelvis, place, spine, head, {side: resting(rng, times_s) for side in BOTH}, feet)


def rows(first: Curve, second: Curve, third: Curve) -> Curve:
    """Return `[T, 3]` of three curves."""
    return np.stack([first, second, third], axis=1)


def either(rng: RNG) -> int:
    """Return a side."""
    return LEFT if rng.uniform() < 0.5 else RIGHT


def sides(rng: RNG, both: float) -> tuple[int, ...]:
    """Return both sides with probability `both`, or else one of them."""
    return BOTH if rng.uniform() < both else (either(rng),)


def roaming(rng: RNG, times_s: Curve, every_s: float, move: float = 0.75) -> Arm:
    """Return an arm that goes from one drawn place within its reach to the next."""
    lift = keys(rng, times_s, 0.35, 2.6, every_s, move)
    high = smooth((lift - 1.6) / 0.8)  # above the shoulder an arm reaches outwards, not across
    towards = keys(rng, times_s, 0.0, 1.7, every_s, move) * (1 - 0.5 * high)
    return Arm(
        lift, towards, keys(rng, times_s, -1.0, 0.4, every_s, move), keys(rng, times_s, 0.1, 1.5, every_s, move),
        keys(rng, times_s, -0.4, 0.5, every_s, move), keys(rng, times_s, -0.2, 0.2, every_s, move),
        keys(rng, times_s, 0.0, 0.9, every_s, move),
    )  # fmt: skip


def step(posture: Posture, phase: Curve, high: float, weight: float) -> None:
    """Lift the left foot in the first half of each round and the right one in the second, `high` leg lengths, with the
    pelvis over the other one by the share `weight`."""
    for side, start in ((LEFT, 0.0), (RIGHT, 0.5)):
        up = hops(phase - start, 0.5)
        foot = posture.feet[side]
        foot.place[:, 1] += high * up
        foot.place[:, 2] += 0.3 * high * up
        foot.pitch += 0.7 * min(high / 0.2, 1) * up
    posture.place[:, 0] -= weight * 0.1 * np.sin(2 * np.pi * phase)
    posture.pelvis[:, 1] += weight * 0.06 * np.sin(2 * np.pi * phase)


def dip(posture: Posture, depth: Curve) -> None:
    """Bend the knees by `depth` `[T]` leg lengths, the pelvis back and the trunk forward so that nobody falls over."""
    posture.place[:, 1] -= depth
    posture.place[:, 2] -= 0.42 * depth
    posture.pelvis[:, 0] += 0.75 * depth
    posture.spine[:, 0] += 0.35 * depth
    posture.head[:, 0] -= 0.6 * depth


def bounce(posture: Posture, phase: Curve, depth: float) -> None:
    """Bend the knees a little on each beat."""
    dip(posture, depth * bump(phase))
