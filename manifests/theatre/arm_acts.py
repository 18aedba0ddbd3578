"""Motions of the arms, standing: each takes a random generator and moments, and returns a posture at each."""

import numpy as np

from manifests.theatre.curves import Curve, beat, bump, drift, groove, hold, keys, smooth
from manifests.theatre.posture import Posture
from manifests.theatre.standing import (
    BOTH,
    LEFT,
    RIGHT,
    RNG,
    arm,
    bounce,
    dip,
    either,
    on_hip,
    roaming,
    rows,
    sides,
    standing,
)


def wave(rng: RNG, times_s: Curve) -> Posture:
    """One hand waves, or both; raised all the time, or coming up and going down again."""
    posture = standing(rng, times_s)
    phase, size = beat(rng, times_s, 0.7, 1.9), rng.uniform(0.2, 0.55)
    lasting = rng.uniform() < 0.6
    raised = np.ones_like(times_s) if lasting else hold(beat(rng, times_s, 0.18, 0.35), 0.5)
    hand = rng.uniform(0.1, 0.4)
    for side in sides(rng, 0.2):
        swing = np.sin(2 * np.pi * phase)
        up = arm(
            times_s, rng.uniform(1.2, 2.3) + drift(rng, times_s, 0.1), rng.uniform(0.0, 0.7),
            rng.uniform(0.7, 1.6) + size * swing, rng.uniform(-1.6, -1.1), aside=hand * swing, curl=rng.uniform(0, 0.2),
        )  # fmt: skip
        posture.arms[side] = posture.arms[side].mixed(up, raised)
        posture.spine[:, 1] -= side * 0.08 * raised
    return posture


def reach(rng: RNG, times_s: Curve) -> Posture:
    """One arm or both go from place to place, and the trunk and the head follow."""
    posture = standing(rng, times_s)
    every_s = rng.uniform(0.7, 1.5)
    for side in sides(rng, 0.6):
        posture.arms[side] = roaming(rng, times_s, every_s)
        out = smooth((posture.arms[side].lift - 0.8) / 1.5)
        posture.spine[:, 2] -= side * 0.3 * out * np.sin(posture.arms[side].towards)
        posture.spine[:, 1] += side * 0.12 * out * np.cos(posture.arms[side].towards)
        posture.head[:, 0] -= 0.2 * out
    return posture


def point(rng: RNG, times_s: Curve) -> Posture:
    """A stretched arm points at one thing after the other, and the head looks there."""
    posture = standing(rng, times_s)
    side, every_s = either(rng), rng.uniform(1.0, 2.2)
    towards = keys(rng, times_s, -0.1, 1.7, every_s, 0.4)
    lift = keys(rng, times_s, 1.1, 2.1, every_s, 0.4)
    pointing = arm(times_s, lift, towards, rng.uniform(0.05, 0.3), rng.uniform(-0.4, 0.2), curl=rng.uniform(0.55, 0.8))
    between = hold(beat(rng, times_s, 0.25, 0.5), rng.uniform(0.4, 0.7)) if rng.uniform() < 0.5 else 1.0
    posture.arms[side] = posture.arms[side].mixed(pointing, between)
    if rng.uniform() < 0.4:
        posture.arms[-side] = on_hip(rng, times_s)
    posture.head[:, 2] += side * 0.7 * (0.9 - towards) * between
    posture.head[:, 0] -= 0.3 * (lift - 1.5) * between
    posture.spine[:, 2] += side * 0.3 * (0.8 - towards) * between
    return posture


def circle(rng: RNG, times_s: Curve) -> Posture:
    """Arms go round: wide circles up the front and down the side, or small ones held out sideways."""
    posture = standing(rng, times_s)
    wide = rng.uniform() < 0.5
    phase = beat(rng, times_s, 0.3, 0.75) if wide else beat(rng, times_s, 0.5, 1.3)
    apart = float(rng.choice([0.0, 0.5]))
    way = 1.0 if rng.uniform() < 0.5 else -1.0
    size, middle = rng.uniform(0.15, 0.5), rng.uniform(1.2, 1.8)
    straight = rng.uniform(0.05, 0.5)
    for side in sides(rng, 0.8):
        angle = 2 * np.pi * way * (phase + (apart if side < 0 else 0.0))
        if wide:
            lift, towards = 1.5 - 1.25 * np.cos(angle), 0.85 + 0.75 * np.sin(angle)
        else:
            lift, towards = middle + size * np.sin(angle), 0.3 + size * np.cos(angle)
        posture.arms[side] = arm(times_s, lift, towards, straight, rng.uniform(-0.3, 0.1), curl=rng.uniform(0, 0.6))
    return posture


def box(rng: RNG, times_s: Curve) -> Posture:
    """A boxer: guard up, one foot ahead, straight punches, hooks or uppercuts in turn."""
    posture = standing(rng, times_s)
    lead, phase = either(rng), beat(rng, times_s, 0.5, 1.0)
    for side in BOTH:
        posture.feet[side].place[:, 2] += 0.14 * side * lead
        posture.feet[side].yaw -= 0.25 * lead
    posture.pelvis[:, 2] -= 0.3 * lead
    bounce(posture, 2 * phase, rng.uniform(0.01, 0.04))
    dip(posture, np.full_like(times_s, rng.uniform(0.02, 0.07)))
    guard = (rng.uniform(0.45, 0.75), rng.uniform(0.7, 1.1), rng.uniform(2.05, 2.35), rng.uniform(-0.1, 0.3))
    punches = [(1.5, 1.55, 0.12, 0.2), (1.35, 1.7, 1.3, 0.9), (1.05, 1.5, 1.35, -0.3)]
    kind = rng.integers(3)
    for side, start in ((LEFT, 0.0), (RIGHT, 0.5)):
        out = bump(np.clip(np.mod(phase - start, 1.0) / 0.45, 0, 1))
        hit = arm(times_s, *punches[kind], curl=1.0)
        posture.arms[side] = arm(times_s, *guard, curl=0.95).mixed(hit, out)
        posture.spine[:, 2] -= side * 0.4 * out
        posture.pelvis[:, 2] -= side * 0.12 * out
    posture.head[:, 2] = 0.25 * lead - 0.5 * posture.spine[:, 2]
    posture.head[:, 0] = 0.1
    return posture


def talk(rng: RNG, times_s: Curve) -> Posture:
    """Somebody explains something with their hands."""
    posture = standing(rng, times_s)
    every_s = rng.uniform(0.45, 0.9)
    for side in sides(rng, 0.7):
        posture.arms[side] = arm(
            times_s, keys(rng, times_s, 0.3, 0.85, every_s, 0.9), keys(rng, times_s, 0.5, 1.3, every_s, 0.9),
            keys(rng, times_s, 0.8, 1.8, every_s, 0.9), keys(rng, times_s, -0.6, 0.6, every_s, 0.9),
            bend=keys(rng, times_s, -0.5, 0.4, every_s, 0.9), curl=keys(rng, times_s, 0.0, 0.7, every_s, 0.9),
        )  # fmt: skip
    posture.head += rows(*(keys(rng, times_s, -0.12, 0.12, every_s, 0.9) for _ in range(3)))
    return posture


def flap(rng: RNG, times_s: Curve) -> Posture:
    """Arms beat like wings, straight or in a wave through the elbows, together or in turn."""
    posture = standing(rng, times_s)
    phase, size = beat(rng, times_s, 0.4, 1.1), rng.uniform(0.35, 0.8)
    apart, late = float(rng.choice([0.0, 0.0, 0.5])), rng.uniform(0.0, 0.3)
    middle, bent = rng.uniform(1.2, 1.7), rng.uniform(0.1, 0.6)
    for side in BOTH:
        angle = 2 * np.pi * (phase + (apart if side < 0 else 0.0))
        posture.arms[side] = arm(
            times_s, middle + size * np.sin(angle), rng.uniform(0.0, 0.3), bent - 0.5 * bent * np.sin(angle - late),
            -0.7, bend=-0.5 * np.sin(angle - 2 * late), curl=rng.uniform(0, 0.3),
        )  # fmt: skip
    bounce(posture, phase, rng.uniform(0.0, 0.06))
    return posture


def clap(rng: RNG, times_s: Curve) -> Posture:
    """Hands clap in front, or above the head."""
    posture = standing(rng, times_s)
    phase, high = beat(rng, times_s, 0.8, 1.8), rng.uniform() < 0.3
    lift, elbow = (rng.uniform(2.2, 2.5), 0.75) if high else (rng.uniform(0.75, 1.1), rng.uniform(0.9, 1.2))
    apart = bump(phase)
    for side in BOTH:
        towards = (1.0 if high else 1.45) - rng.uniform(0.45, 0.6) * apart
        posture.arms[side] = arm(times_s, lift, towards, elbow, 0.35 - 0.3 * apart, bend=-0.2, curl=0.05)
    bounce(posture, phase, rng.uniform(0.0, 0.05))
    return posture


def conduct(rng: RNG, times_s: Curve) -> Posture:
    """Both arms beat time, like those of a conductor."""
    posture = standing(rng, times_s)
    phase = beat(rng, times_s, 0.4, 0.9)
    for side in BOTH:
        posture.arms[side] = arm(
            times_s, 1.15 + groove(rng, phase, 0.4), 0.8 + groove(rng, phase, 0.45), 1.0 + groove(rng, phase, 0.5),
            -0.3 + groove(rng, phase, 0.4), bend=groove(rng, phase, 0.4), curl=rng.uniform(0.3, 0.7),
        )  # fmt: skip
    posture.head[:, 0] += groove(rng, phase, 0.12)
    posture.spine[:, 0] += groove(rng, phase, 0.06)
    return posture
