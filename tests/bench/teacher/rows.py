"""A measure of many clips as a row of the page: its mean, what the mean may be, and what is wanted of it."""

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.training.reconstruct import interval

Measured = dict[str, Any]
Values = NDArray[np.float64]  # [n], one a clip

_BEGAN_S = time.monotonic()


def row(name: str, values: Values, unit: str = "", wanted: float | None = None) -> Measured:
    """Return the mean over the clips in which there is something to measure, its bootstrap interval, and how many."""
    known = values[np.isfinite(values)]
    value = float(known.mean()) if len(known) else float("nan")
    return _told(name, value, interval(values), len(known), unit, wanted)


def share_of_the_way(name: str, made: Values, floor: Values, ceiling: Values, wanted: float | None = None) -> Measured:
    """Return how far the mean has come from the floor's (0) to the ceiling's (1); clips are drawn again whole."""
    known = np.isfinite(made) & np.isfinite(floor) & np.isfinite(ceiling)

    def share(made: Values, floor: Values, ceiling: Values) -> float:
        return float((made.mean() - floor.mean()) / (ceiling.mean() - floor.mean()))

    columns = made[known], floor[known], ceiling[known]
    return _told(name, share(*columns), bootstrap(share, *columns), int(known.sum()), "", wanted)


def bootstrap(
    statistic: Callable[..., float], *columns: Values, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return the bootstrap interval (95 %) of a statistic of columns whose lines belong together."""
    count = len(columns[0])
    picks = np.random.default_rng(seed).integers(count, size=(draws, count))
    low, high = np.percentile([statistic(*(column[pick] for column in columns)) for pick in picks], [2.5, 97.5])
    return float(low), float(high)


def plain(name: str, value: float, unit: str = "", least: float | None = None, most: float | None = None) -> Measured:
    """Return a row of one number, of which at least or at most something is wanted."""
    target = f">= {least:g}" if least is not None else None if most is None else f"<= {most:g}"
    holds = value >= least if least is not None else None if most is None else value <= most
    return {"name": name, "value": value, "unit": unit, "target": target, "holds": holds}


def progress(what: str) -> None:
    """Say on the standard error what is being done, and after how long."""
    print(f"{(time.monotonic() - _BEGAN_S) / 60:6.1f} min  {what}", file=sys.stderr, flush=True)


def _told(
    name: str, value: float, between: tuple[float, float], count: int, unit: str, wanted: float | None
) -> Measured:
    return plain(f"{name} (95 % {between[0]:.3g} to {between[1]:.3g}, n {count})", value, unit, wanted)
