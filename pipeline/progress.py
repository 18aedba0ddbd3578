"""The live line of each stage: how many, how fast, how long still, and what went wrong."""

import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table

from manifests import ledger
from pipeline.plan import IMPORT, TrackPlan
from pipeline.worker import Result

PLAIN_EVERY_S = 10.0  # without a terminal: one block of lines at this interval, if something moved


@dataclass
class _Line:
    track: str
    stage: str
    todo: int
    first: float | None = None  # when its first result of this run came
    latest: float = 0.0  # and its last one: a stage that waits for others is not slow
    told: int = 0  # results, when its line was printed last
    ended: Counter[str] = field(default_factory=Counter)


class Progress:
    """Shows a run on stderr: a live table on a terminal, plain lines elsewhere, nothing when quiet."""

    def __init__(self, quiet: bool = False) -> None:
        self._console = Console(stderr=True)
        self._quiet = quiet
        self._lines: dict[tuple[str, str], _Line] = {}
        self._live: Live | None = None
        self._shown = time.monotonic()

    def begin(self, plans: list[TrackPlan]) -> None:
        """Take the number of rows to do; a later stage's is an upper bound until its rows arrive."""
        for plan in plans:
            reach = 0
            for count in plan.counts:
                if count.stage != IMPORT:
                    reach += count.pending
                    self._lines[plan.track, count.stage] = _Line(plan.track, count.stage, reach)
        if not self._quiet and self._console.is_terminal:
            self._live = Live(self._table(), console=self._console, refresh_per_second=4)
            self._live.start()

    def count(self, track: str, stage: str, result: Result) -> None:
        """Take one result."""
        line = self._lines[track, stage]
        line.latest = time.monotonic()
        line.first = line.first or line.latest - result.seconds
        line.ended[result.state] += 1
        if result.state in (ledger.REJECTED, ledger.QUARANTINED):  # it will not reach the stages behind
            behind = [other for other in self._lines.values() if other.track == track]
            for other in behind[behind.index(line) + 1 :]:
                other.todo -= 1

    def show(self) -> None:
        """Refresh what is shown, if it is time."""
        if self._live is not None:
            self._live.update(self._table())
        elif not self._quiet and time.monotonic() - self._shown >= PLAIN_EVERY_S:
            self._shown = time.monotonic()
            for line in self._lines.values():
                if line.ended.total() != line.told:
                    line.told = line.ended.total()
                    print(" ".join(_cells(line)), file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the last state on the screen."""
        if self._live is not None:
            self._live.update(self._table())
            self._live.stop()
            self._live = None

    def _table(self) -> Table:
        table = Table("stage", "", "rate", "left", "rejected", "quarantined", box=None, pad_edge=False)
        for line in (line for line in self._lines.values() if line.todo):
            name, done, rate, left, rejected, quarantined = _cells(line)
            table.add_row(name, done, rate, left, rejected, f"[red]{quarantined}[/]" if quarantined[0] != "0" else "0")
        return table


def _cells(line: _Line) -> list[str]:
    ended = line.ended.total()
    elapsed = line.latest - line.first if line.first else 0.0
    rate = ended / elapsed if elapsed > 0 else 0.0
    left = max(0.0, (line.todo - ended) / rate - (time.monotonic() - line.latest)) if rate else None
    return [
        f"{line.track}.{line.stage}",
        f"{ended}/{line.todo}",
        _speed(rate),
        "-" if left is None else f"{int(left // 60)}:{int(left % 60):02d} left",
        f"{line.ended[ledger.REJECTED]} rejected",
        f"{line.ended[ledger.QUARANTINED]} quarantined",
    ]


def _speed(rate: float) -> str:
    if rate == 0:
        return "-"
    return f"{rate:.1f}/s" if rate >= 1 else f"{rate * 60:.1f}/min"
