"""Smooth curves over time, of which our own motions are made.

Each draws its numbers first and is then a function of time alone: the same moment gives the same value, whichever other
moments are asked for.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float64]

_KEYS: Final = 48
_WAVES: Final = 3


def smooth(part: Curve) -> Curve:
    """Return 0 to 1 with a soft start and end for `part` 0 to 1, and those ends outside it."""
    part = np.clip(part, 0.0, 1.0)
    return part**2 * (3 - 2 * part)


def bump(phase: Curve) -> Curve:
    """Return 0 at whole numbers of `phase`, 1 in the middle between them."""
    return np.asarray((1 - np.cos(2 * np.pi * phase)) / 2)


def hold(phase: Curve, still: float) -> Curve:
    """Return as `bump`, but `still` of each round (0 to 0.8) is spent in the high position."""
    rise = (1 - still) / 2
    part = np.mod(phase, 1.0)
    return smooth(part / rise) * smooth((1 - part) / rise)


def hops(phase: Curve, share: float) -> Curve:
    """Return one smooth bump to 1 in the first `share` of each round, and 0 in the rest."""
    return bump(np.clip(np.mod(phase, 1.0) / share, 0.0, 1.0))


def drift(rng: np.random.Generator, times_s: Curve, size: float, fastest_hz: float = 0.35) -> Curve:
    """Return a slow wandering within `size` of 0, a sum of sines up to `fastest_hz`."""
    hz = rng.uniform(0.05, fastest_hz, _WAVES)
    phase, share = rng.uniform(0, 1, _WAVES), rng.dirichlet(np.ones(_WAVES))
    return np.asarray(size * (np.sin(2 * np.pi * (times_s[:, None] * hz + phase)) @ share))


def beat(rng: np.random.Generator, times_s: Curve, slowest_hz: float, fastest_hz: float) -> Curve:
    """Return a phase, in rounds, that runs at a drawn tempo from a drawn start, not quite evenly."""
    hz, start = rng.uniform(slowest_hz, fastest_hz), rng.uniform()
    return start + hz * times_s + drift(rng, times_s, 0.06)


def groove(rng: np.random.Generator, phase: Curve, size: float) -> Curve:
    """Return a periodic curve within `size` of 0: a sine and some of its first two overtones, with drawn phases."""
    weights = np.array([1.0, 0.5, 0.25]) * rng.uniform(0.2, 1.0, _WAVES)
    turns = np.arange(1, _WAVES + 1) * (phase[:, None] + rng.uniform(0, 1, _WAVES))
    return np.asarray(size * (np.sin(2 * np.pi * turns) @ (weights / weights.sum())))


def keys(rng: np.random.Generator, times_s: Curve, low: float, high: float, every_s: float, move: float = 0.6) -> Curve:
    """Return a curve through values drawn from `low` to `high`, a new one each `every_s`, reached within the share
    `move` of that time and then held."""
    values = rng.uniform(low, high, _KEYS)
    place = times_s / every_s
    at = np.floor(place).astype(int)
    before, after = values[at % _KEYS], values[(at + 1) % _KEYS]
    return np.asarray(before + smooth((place - at) / move) * (after - before))
