"""Who notices that nothing moves, and says where."""

import sys
import time

from pipeline.desk import Pulse


class Watchdog:
    """Says, once for each `stall_timeout_s` without a result, which stage, row and worker stand still."""

    def __init__(self, stall_timeout_s: float) -> None:
        self._timeout_s = stall_timeout_s
        self._moved_s = self._said_s = time.monotonic()

    @property
    def idle_s(self) -> float:
        """Seconds since the last result."""
        return time.monotonic() - self._moved_s

    def look(self, pulse: Pulse, waiting: dict[tuple[str, str], int]) -> str | None:
        """Look at a pulse; returns the sentence, if it is time for one, which is also printed."""
        now = time.monotonic()
        if pulse.results:
            self._moved_s = self._said_s = now
        if now - self._said_s < self._timeout_s:
            return None
        self._said_s = now
        said = f"nothing was finished for {self.idle_s:.0f} s; {_where(pulse)}; {_queues(pulse, waiting)}"
        print(f"bodydouble: {said}", file=sys.stderr, flush=True)
        return said


def _where(pulse: Pulse) -> str:
    if pulse.oldest is None:
        return "no row is in a stage's hands: see whether workers can start (`ray status`, the dashboard)"
    errand, worker, seconds = pulse.oldest
    return f"{errand.track}.{errand.stage} has worked on {errand.id} for {seconds:.0f} s in worker {worker}"


def _queues(pulse: Pulse, waiting: dict[tuple[str, str], int]) -> str:
    named = (
        f"{track}.{stage} {count} waiting, {pulse.in_flight.get((track, stage), 0)} in flight"
        for (track, stage), count in waiting.items()
    )
    return "; ".join(named)
