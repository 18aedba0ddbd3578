"""A run's figures where a cluster's operator looks: Ray's metrics, which Prometheus collects from every node.

    bodydouble_items          count of results, by track, stage and state
    bodydouble_item_seconds   histogram of the working time of an item, by track and stage
    bodydouble_in_flight      rows in workers' hands, by track and stage
    bodydouble_waiting        rows that wait for a worker, by track and stage

Prometheus shows them with the prefix `ray_`.
"""

from collections.abc import Mapping
from typing import Final

from ray.util.metrics import Counter, Gauge, Histogram

from pipeline.desk import Pulse

_BOUNDS_S: Final = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000]
_AT: Final = ("track", "stage")


class Meters:
    """The figures of one run; the driver tells them."""

    def __init__(self) -> None:
        self._items = Counter("bodydouble_items", "results", (*_AT, "state"))
        self._seconds = Histogram("bodydouble_item_seconds", "working time of an item, s", _BOUNDS_S, _AT)
        self._in_flight = Gauge("bodydouble_in_flight", "rows in workers' hands", _AT)
        self._waiting = Gauge("bodydouble_waiting", "rows that wait for a worker", _AT)

    def take(self, pulse: Pulse, waiting: Mapping[tuple[str, str], int]) -> None:
        """Count what a pulse brought; `waiting` is (track, stage) -> rows."""
        for track, stage, state, seconds in pulse.results:
            self._items.inc(1, {"track": track, "stage": stage, "state": state})
            self._seconds.observe(max(seconds, 1e-6), {"track": track, "stage": stage})
        for (track, stage), rows in waiting.items():
            at = {"track": track, "stage": stage}
            self._waiting.set(rows, at)
            self._in_flight.set(pulse.in_flight.get((track, stage), 0), at)
