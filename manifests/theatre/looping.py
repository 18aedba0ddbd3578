"""A clip at any moments: between its key frames by slerp, and on past its end.

A cyclic clip goes on round after round: each round starts where, and facing as, the last one ended. What does not meet
at the seam (captured rounds close to within 5 to 60 degrees) is carried over and fades in the first half second of the
next round, so the first round is the clip itself. A clip that is not cyclic is played to and fro.
"""

from typing import Final

import numpy as np

from manifests.theatre import rotations as turn
from manifests.theatre.capture import Clip
from manifests.theatre.rotations import Quaternions, Vectors

_FADE_S: Final = 0.5
# below this, the pelvis of one round's end and of its start differ by noise; above it the figure walks a curve
_CURVE_MIN_RAD: Final = np.radians(25)
_UPRIGHT: Final = np.array([1.0, 0.0, 0.0, 0.0])

Frames = tuple[Quaternions, Vectors, Vectors]


def at(clip: Clip, times_s: Vectors) -> Frames:
    """Return turns `[T, 22, 4]`, translation `[T, 3]` and curl `[T, 2]` of a clip at `times_s` `[T]`, from 0 on."""
    if clip.cyclic:
        return _rounds(clip, times_s)
    phase = np.mod(times_s, 2 * clip.seconds)
    return between(clip, np.where(phase > clip.seconds, 2 * clip.seconds - phase, phase))


def between(clip: Clip, times_s: Vectors) -> Frames:
    """Return the same at moments within the clip: slerp for turns, straight lines for the rest."""
    after = np.clip(np.searchsorted(clip.times_s, times_s, side="right"), 1, len(clip.times_s) - 1)
    start, end = clip.times_s[after - 1], clip.times_s[after]
    part = ((times_s - start) / (end - start))[:, None]
    turns = turn.slerp(clip.turns[after - 1], clip.turns[after], part)
    straight = [line[after - 1] + part * (line[after] - line[after - 1]) for line in (clip.translation, clip.curl)]
    return turns, straight[0], straight[1]


def _rounds(clip: Clip, times_s: Vectors) -> Frames:
    rounds = np.floor(times_s / clip.seconds)
    rest_s = times_s - rounds * clip.seconds
    turns, translation, curl = between(clip, rest_s)

    left = turn.multiply(clip.turns[-1], turn.inverse(clip.turns[0]))
    curve = turn.heading(left[0])
    if abs(2 * np.arctan2(curve[2], curve[0])) % (2 * np.pi) < _CURVE_MIN_RAD:
        curve = _UPRIGHT
    left[0] = turn.multiply(turn.inverse(curve), left[0])
    gone = clip.translation[-1] - clip.translation[0]

    window_s = min(_FADE_S, clip.seconds / 2)
    rising = np.clip(rest_s / window_s, 0, 1)
    carried = np.where(rounds > 0, 1 - rising**2 * (3 - 2 * rising), 0.0)
    turns = turn.multiply(turn.share(left, carried[:, None]), turns)
    curl = curl + carried[:, None] * (clip.curl[-1] - clip.curl[0])

    translation = translation - clip.translation[0]
    translation[:, 1] += carried * gone[1]
    turned, base = _UPRIGHT, clip.translation[0].copy()
    turned_of, base_of = [], []
    for _ in range(int(rounds.max(initial=0)) + 1):
        turned_of.append(turned)
        base_of.append(base)
        base = base + turn.rotate(turned, gone * np.array([1.0, 0.0, 1.0]))
        turned = turn.multiply(curve, turned)
    which = rounds.astype(int)
    turned_now = np.stack(turned_of)[which]
    translation = np.stack(base_of)[which] + turn.rotate(turned_now, translation)
    turns[:, 0] = turn.multiply(turned_now, turns[:, 0])
    return turns, translation, curl
