"""Motions of the legs and of the whole body, on the spot: as in `arm_acts`."""

import numpy as np

from manifests.theatre.curves import Curve, beat, bump, drift, groove, hold, hops, keys, smooth
from manifests.theatre.posture import Posture
from manifests.theatre.rotations import Y, about, rotate
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
    standing,
    step,
)


def sway(rng: RNG, times_s: Curve) -> Posture:
    """Somebody waits: weight from one leg to the other, looking about."""
    posture = standing(rng, times_s)
    side = drift(rng, times_s, 1.0, 0.5)
    posture.place[:, 0] += rng.uniform(0.04, 0.1) * side
    posture.pelvis[:, 1] += 0.1 * side
    posture.spine[:, 1] -= 0.14 * side
    posture.head[:, 2] += keys(rng, times_s, -0.7, 0.7, rng.uniform(0.9, 2.0), 0.5)
    posture.pelvis[:, 2] += drift(rng, times_s, 0.2)
    return posture


def squat(rng: RNG, times_s: Curve) -> Posture:
    """Squats, shallow to deep, with the arms as drawn."""
    posture = standing(rng, times_s)
    down = hold(beat(rng, times_s, 0.22, 0.5), rng.uniform(0.0, 0.4))
    wide = rng.uniform(0.0, 0.15)
    for side in BOTH:
        posture.feet[side].place[:, 0] += side * wide
        posture.feet[side].yaw += side * wide
    dip(posture, rng.uniform(0.15, 0.5) * down)
    ways = [(1.5, 1.5, 0.1, 0.0), (2.6, 0.5, 0.2, -0.3), (0.9, 1.35, 2.0, 0.4), (1.5, 0.1, 0.1, 0.0)]
    way = rng.integers(6)
    for side in BOTH:
        if way < len(ways):
            there = arm(times_s, *ways[way], curl=0.2)
            posture.arms[side] = posture.arms[side].mixed(there, down)
        elif way == len(ways):
            posture.arms[side] = on_hip(rng, times_s)
    return posture


def sit(rng: RNG, times_s: Curve) -> Posture:
    """Sitting down on something that is not there, staying a while, and getting up."""
    posture = standing(rng, times_s)
    phase = beat(rng, times_s, 0.14, 0.28)
    down = hold(phase, rng.uniform(0.3, 0.6))
    low, back = rng.uniform(0.4, 0.52), rng.uniform(0.3, 0.4)
    posture.place[:, 1] -= low * down
    posture.place[:, 2] -= back * down
    moving = 4 * down * (1 - down)
    posture.spine[:, 0] += rng.uniform(0.3, 0.6) * moving
    posture.pelvis[:, 0] += 0.35 * moving
    posture.head[:, 0] -= 0.25 * moving
    for side in BOTH:
        lap = arm(times_s, rng.uniform(0.4, 0.6), rng.uniform(1.0, 1.4), rng.uniform(0.6, 1.0), 0.4, curl=0.2)
        posture.arms[side] = posture.arms[side].mixed(lap, down)
    return posture


def jack(rng: RNG, times_s: Curve) -> Posture:
    """Jumping jacks, or half ones without the jump."""
    posture = standing(rng, times_s)
    phase, jumps = beat(rng, times_s, 0.5, 0.95), rng.uniform() < 0.7
    out, high, wide = bump(phase), rng.uniform(1.4, 2.7), rng.uniform(0.12, 0.26)
    for side in BOTH:
        posture.feet[side].place[:, 0] += side * wide * out
        lift = 0.3 + (high - 0.3) * out
        posture.arms[side] = arm(times_s, lift, rng.uniform(0.0, 0.3), rng.uniform(0.1, 0.5), -0.3 * out, curl=0.2)
    if jumps:
        posture.place[:, 1] += 0.09 * np.sin(2 * np.pi * phase) ** 2
        for side in BOTH:
            posture.feet[side].pitch += 0.5 * np.sin(2 * np.pi * phase) ** 2
    return posture


def march(rng: RNG, times_s: Curve) -> Posture:
    """Marching or running on the spot, knees low to high, arms against the legs."""
    posture = standing(rng, times_s)
    phase, high = beat(rng, times_s, 0.6, 1.2), rng.uniform(0.06, 0.42)
    step(posture, phase, high, 1.0)
    size, bent = rng.uniform(0.2, 0.8), rng.uniform(0.3, 1.6)
    if rng.uniform() < 0.75:
        for side in BOTH:
            swing = -side * np.sin(2 * np.pi * phase)
            # through the vertical: lifted to the front while the other knee is up, a little outwards in between
            posture.arms[side] = arm(times_s, 0.35 + size * (1 + swing) / 2, 0.7 + 0.8 * swing, bent + 0.2 * swing, 0.2,
                                     curl=rng.uniform(0.3, 1.0))  # fmt: skip
    posture.spine[:, 2] += 0.12 * np.sin(2 * np.pi * phase)
    return posture


def sidestep(rng: RNG, times_s: Curve) -> Posture:
    """Step and close to one side, step and close back."""
    posture = standing(rng, times_s)
    phase, far, high = beat(rng, times_s, 0.22, 0.45), rng.uniform(0.12, 0.34), rng.uniform(0.02, 0.08)
    starts = {LEFT: (0.0, 0.75), RIGHT: (0.25, 0.5)}
    share, middle = 0.25, np.zeros_like(times_s)
    rounds = np.mod(phase, 1.0)
    for side, (out, back) in starts.items():
        shift = far * (smooth((rounds - out) / share) - smooth((rounds - back) / share))
        lift = hops(phase - out, share) + hops(phase - back, share)
        posture.feet[side].place[:, 0] += shift
        posture.feet[side].place[:, 1] += high * lift
        middle += shift / 2
    posture.place[:, 0] += middle - far / 2
    for side in BOTH:
        posture.feet[side].place[:, 0] -= far / 2
    bounce(posture, 4 * phase, rng.uniform(0.0, 0.03))
    if rng.uniform() < 0.6:
        for side in BOTH:
            posture.arms[side] = arm(times_s, 0.7 + groove(rng, 2 * phase, 0.4), 0.8 + groove(rng, 2 * phase, 0.4),
                                     1.1 + groove(rng, 2 * phase, 0.5), 0.1, curl=0.4)  # fmt: skip
    return posture


def bow(rng: RNG, times_s: Curve) -> Posture:
    """Bowing, from a nod of the trunk to a deep one."""
    posture = standing(rng, times_s)
    down, deep = hold(beat(rng, times_s, 0.18, 0.4), rng.uniform(0.1, 0.5)), rng.uniform(0.3, 1.25)
    posture.pelvis[:, 0] += 0.55 * deep * down
    posture.spine[:, 0] += 0.45 * deep * down
    posture.head[:, 0] += rng.uniform(-0.2, 0.3) * down
    posture.place[:, 2] -= 0.14 * deep * down
    if rng.uniform() < 0.4:
        side = either(rng)
        across = arm(times_s, 0.5, 1.5, 1.75, 0.9, curl=0.2)
        posture.arms[side] = posture.arms[side].mixed(across, down)
        if rng.uniform() < 0.5:
            posture.arms[-side] = posture.arms[-side].mixed(arm(times_s, 1.2, 0.0, 0.2, curl=0.1), down)
    return posture


def twist(rng: RNG, times_s: Curve) -> Posture:
    """The trunk turns from side to side, arms held out, bent before the chest, or swinging along."""
    posture = standing(rng, times_s)
    phase, far = beat(rng, times_s, 0.25, 0.65), rng.uniform(0.3, 0.75)
    turned = far * np.sin(2 * np.pi * phase)
    posture.spine[:, 2] += turned
    posture.pelvis[:, 2] += 0.25 * turned
    posture.head[:, 2] += rng.uniform(-0.8, 0.5) * turned
    held = [(1.5, 0.1, 0.1, 0.0), (1.35, 1.0, 2.0, 0.5), (0.7, 0.6, 0.4, 0.3), (1.2, 0.3, 1.9, -1.2)][rng.integers(4)]
    for side in BOTH:
        posture.arms[side] = arm(times_s, *held, curl=rng.uniform(0.1, 0.8))
    return posture


def kick(rng: RNG, times_s: Curve) -> Posture:
    """Low kicks to the front or the side, from one leg and the other."""
    posture = standing(rng, times_s)
    phase, out = beat(rng, times_s, 0.3, 0.6), rng.uniform(0.25, 0.5)
    aside = rng.uniform(0.0, 1.2)
    for side, start in ((LEFT, 0.0), (RIGHT, 0.5)):
        up = hops(phase - start, 0.42)
        foot = posture.feet[side]
        foot.place += up[:, None] * np.array([side * out * np.sin(aside), 0.16 + 0.5 * out**2, out * np.cos(aside)])
        foot.pitch += 0.3 * up
        posture.arms[side] = arm(
            times_s, 0.5 + rng.uniform(0.2, 0.6) * (1 - up), 0.5, rng.uniform(0.3, 1.2), 0.2, curl=0.5
        )
    posture.place[:, 0] -= 0.09 * np.sin(2 * np.pi * phase)
    posture.spine[:, 0] -= 0.1 * np.abs(np.sin(2 * np.pi * phase))
    return posture


def bob(rng: RNG, times_s: Curve) -> Posture:
    """Bending the knees or rising on the toes to a beat, arms along."""
    posture = standing(rng, times_s)
    phase = beat(rng, times_s, 0.6, 1.3)
    if rng.uniform() < 0.5:
        bounce(posture, phase, rng.uniform(0.05, 0.2))
    else:
        for side in BOTH:
            posture.feet[side].pitch += rng.uniform(0.3, 0.8) * bump(phase)
    slow = phase / 2
    for side in BOTH:
        posture.arms[side] = arm(times_s, 0.6 + groove(rng, slow, 0.35), 0.8 + groove(rng, slow, 0.5),
                                 1.0 + groove(rng, slow, 0.7), 0.1, curl=0.5)  # fmt: skip
    return posture


def dance(rng: RNG, times_s: Curve) -> Posture:
    """Every joint moves on its own periodic curve, all to one beat."""
    posture = standing(rng, times_s)
    phase = beat(rng, times_s, 0.35, 0.75)
    size = rng.uniform(0.5, 1.0)
    posture.place += size * rows(groove(rng, phase, 0.1), -0.08 * bump(2 * phase), groove(rng, phase, 0.04))
    posture.pelvis += size * rows(groove(rng, 2 * phase, 0.08), groove(rng, phase, 0.16), groove(rng, phase, 0.3))
    posture.spine += size * rows(0.08 + groove(rng, 2 * phase, 0.1), groove(rng, phase, 0.28), groove(rng, phase, 0.35))
    posture.head += size * rows(groove(rng, 2 * phase, 0.18), groove(rng, phase, 0.2), groove(rng, phase, 0.35))
    for side in BOTH:
        posture.arms[side] = arm(
            times_s, rng.uniform(0.8, 1.9) + groove(rng, phase, 0.75), 0.7 + groove(rng, phase, 0.7),
            1.15 + groove(rng, phase, 0.95), rng.uniform(-0.7, 0.2) + groove(rng, phase, 0.5),
            bend=groove(rng, phase, 0.4), curl=0.4 + groove(rng, phase, 0.4),
        )  # fmt: skip
    if rng.uniform() < 0.7:
        step(posture, phase, rng.uniform(0.03, 0.2), 0.5)
    return posture


def pose(rng: RNG, times_s: Curve) -> Posture:
    """From one pose of the whole body to another."""
    posture = standing(rng, times_s)
    every_s, move = rng.uniform(0.8, 1.6), rng.uniform(0.5, 0.9)
    for side in BOTH:
        posture.arms[side] = roaming(rng, times_s, every_s, move)
        posture.feet[side].yaw += side * keys(rng, times_s, 0.0, 0.2, every_s, move)
    dip(posture, keys(rng, times_s, 0.0, 0.25, every_s, move))
    posture.place[:, 0] += keys(rng, times_s, -0.08, 0.08, every_s, move)
    posture.pelvis += rows(*(keys(rng, times_s, -far, far, every_s, move) for far in (0.08, 0.1, 0.3)))
    posture.spine += rows(*(keys(rng, times_s, -far, far, every_s, move) for far in (0.2, 0.3, 0.4)))
    posture.head += rows(*(keys(rng, times_s, -far, far, every_s, move) for far in (0.25, 0.2, 0.6)))
    return posture


def turn(rng: RNG, times_s: Curve) -> Posture:
    """Turning on the spot in small steps, all the way round or to and fro."""
    posture = standing(rng, times_s)
    phase = beat(rng, times_s, 0.7, 1.1)
    a_round, way = rng.uniform(0.5, 1.2), float(either(rng))  # rad a round of two steps
    fro = rng.uniform() < 0.4
    wide, every = rng.uniform(0.5, 1.3), rng.uniform(4.0, 7.0)

    def faced(rounds: Curve) -> Curve:
        return way * (wide * np.sin(2 * np.pi * rounds / every) if fro else a_round * rounds)

    posture.pelvis[:, 2] += faced(phase)
    posture.head[:, 2] += 0.25 * way * (np.cos(2 * np.pi * phase / every) if fro else 1.0)
    step(posture, phase, rng.uniform(0.04, 0.12), 0.3)
    for side, start in ((LEFT, 0.0), (RIGHT, 0.5)):
        # a foot turns while it is in the air, to where the pelvis will be in the middle of its time on the ground
        rounds = phase - start
        now = np.floor(rounds) + start
        part = smooth((rounds - np.floor(rounds)) / 0.5)
        yaw = faced(now - 0.25) + part * (faced(now + 0.75) - faced(now - 0.25))
        foot = posture.feet[side]
        ankle = np.array([side * 0.103, 0.0, -0.08])
        foot.place = rotate(about(Y, yaw), foot.place + ankle) - ankle
        foot.yaw = foot.yaw + yaw
    to_pelvis = about(Y, posture.pelvis[:, 2])
    ahead = posture.place * np.array([1.0, 0.0, 1.0])
    posture.place += rotate(to_pelvis, ahead) - ahead
    return posture


def stretch(rng: RNG, times_s: Curve) -> Posture:
    """Arms overhead, or one of them, bending to the sides."""
    posture = standing(rng, times_s)
    side_to_side = np.sin(2 * np.pi * beat(rng, times_s, 0.15, 0.35))
    far, both = rng.uniform(0.3, 0.6), rng.uniform() < 0.6
    posture.spine[:, 1] += far * side_to_side
    posture.pelvis[:, 1] += 0.12 * side_to_side
    posture.place[:, 0] -= 0.08 * side_to_side
    posture.head[:, 1] += 0.3 * side_to_side
    for side in BOTH:
        up = arm(times_s, rng.uniform(2.5, 2.9), rng.uniform(0.2, 0.5), rng.uniform(0.1, 0.6), -0.5, curl=0.2)
        other = smooth(0.5 - side * side_to_side)  # the arm on the outer side of the bend is the one overhead
        posture.arms[side] = up if both else on_hip(rng, times_s).mixed(up, other)
    return posture


def lunge(rng: RNG, times_s: Curve) -> Posture:
    """One foot far ahead or aside, and the knees bending over it."""
    posture = standing(rng, times_s)
    side, down = either(rng), hold(beat(rng, times_s, 0.25, 0.5), rng.uniform(0.0, 0.4))
    aside = rng.uniform() < 0.5
    far = rng.uniform(0.25, 0.45)
    lead, rear = posture.feet[side], posture.feet[-side]
    lead.place[:, 0 if aside else 2] += far * (side if aside else 1)
    rear.place[:, 0 if aside else 2] -= far * (side if aside else 1)
    if aside:
        lead.yaw += side * 0.4
        posture.place[:, 0] += side * rng.uniform(0.15, 0.3) * down
    else:
        rear.pitch += 0.5
        posture.place[:, 2] += 0.1 * down
    posture.place[:, 1] -= rng.uniform(0.15, 0.3) * down
    posture.spine[:, 0] += 0.1 * down
    for other in BOTH:
        posture.arms[other] = on_hip(rng, times_s) if rng.uniform() < 0.5 else arm(times_s, 1.5, 0.1, 0.2, curl=0.2)
    return posture
