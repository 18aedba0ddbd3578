"""How far a run has come: a live line of each stage on the screen, and a page under the root for those outside."""

import contextlib
import statistics
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from manifests import ledger
from manifests.errors import UserError
from manifests.holder import Onlooker
from manifests.store import Store
from pipeline import status
from pipeline.plan import TrackPlan
from pipeline.status import StageStatus, Stalled, Status
from pipeline.worker import Result

PLAIN_EVERY_S = 10.0  # without a terminal: one block of lines at this interval, if something moved
PAGE_EVERY_S = 2.0
RATE_OVER_S = 60
LATEST = 501  # working times from which the page's median is taken


@dataclass
class _Line:
    track: str
    stage: str
    todo: int
    first: float | None = None  # when its first result of this run came
    latest: float = 0.0  # and its last one: a stage that waits for others is not slow
    told: int = 0  # results, when its line was printed last
    ended: Counter[str] = field(default_factory=Counter)
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=LATEST))
    by_second: deque[list[int]] = field(default_factory=lambda: deque(maxlen=RATE_OVER_S))  # [second, results in it]

    def add(self, result: Result) -> None:
        self.latest = time.monotonic()
        self.first = self.first or self.latest - result.seconds
        self.ended[result.state] += 1
        if result.state in (ledger.DONE, ledger.REJECTED):
            self.seconds.append(result.seconds)
        second = int(self.latest)
        if self.by_second and self.by_second[-1][0] == second:
            self.by_second[-1][1] += 1
        else:
            self.by_second.append([second, 1])

    def per_s(self, now: float) -> float:
        """Results a second over the last minute, or since the first if that is less."""
        if self.first is None:
            return 0.0
        ended = sum(count for second, count in self.by_second if second > now - RATE_OVER_S)
        return ended / min(max(now - self.first, 1.0), RATE_OVER_S)


class Progress:
    """Shows a run on stderr: a live table on a terminal, plain lines elsewhere, nothing when quiet.

    With a root it also keeps the page that `bodydouble status` reads. As a context manager it ends by itself, and the
    page then says whether the run ended or was stopped.
    """

    def __init__(self, quiet: bool = False, root: str | None = None, engine: str = "here") -> None:
        self._console = Console(stderr=True)
        self._quiet = quiet
        self._lines: dict[tuple[str, str], _Line] = {}
        self._live: Live | None = None
        self._shown = time.monotonic()
        self._root = root
        self._engine = engine
        self._page: _PageWriter | None = None
        self._in_flight: Mapping[tuple[str, str], int] | None = None
        self._waiting: Mapping[tuple[str, str], int] | None = None
        self._stalled: Stalled | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.end()
        elif isinstance(error, UserError):
            self.end("stopped", str(error))
        else:
            self.end("stopped", "interrupted" if isinstance(error, KeyboardInterrupt) else type(error).__name__)

    def begin(self, plans: list[TrackPlan]) -> None:
        """Take the number of rows to do; a later stage's is an upper bound until its rows arrive.

        Called under the lease of the root.
        """
        for plan in plans:
            for number, spec in enumerate(plan.specs):
                reach = sum(rows for stages, rows in plan.left.items() if number in stages)
                self._lines[plan.track, spec.name] = _Line(plan.track, spec.name, reach)
        if self._root is not None:
            self._page = _PageWriter(self._root)
            self._page.hand(self._status("running"))
        if not self._quiet and self._console.is_terminal:
            self._live = Live(self._table(), console=self._console, refresh_per_second=4)
            self._live.start()

    def more(self, plans: list[TrackPlan]) -> None:
        """Take rows that became ready when others ended."""
        for plan in plans:
            for number, spec in enumerate(plan.specs):
                line = self._lines[plan.track, spec.name]
                line.todo = line.ended.total() + sum(n for stages, n in plan.left.items() if number in stages)

    def count(self, track: str, stage: str, result: Result) -> None:
        """Take one result."""
        line = self._lines[track, stage]
        line.add(result)
        if result.state in (ledger.REJECTED, ledger.QUARANTINED):  # it will not reach the stages behind
            behind = [other for other in self._lines.values() if other.track == track]
            for other in behind[behind.index(line) + 1 :]:
                other.todo = max(other.todo - 1, other.ended.total())

    def queues(self, in_flight: Mapping[tuple[str, str], int], waiting: Mapping[tuple[str, str], int]) -> None:
        """Take the rows, by (track, stage), that are in workers' hands and that stand before a stage."""
        self._in_flight, self._waiting = in_flight, waiting

    def stall(self, stalled: Stalled | None) -> None:
        """Take where the run stands still; None: it moves."""
        self._stalled = stalled

    def show(self) -> None:
        """Refresh what is shown, if it is time."""
        if self._page is not None and self._page.due():
            self._page.hand(self._status("running"))
        if self._live is not None:
            self._live.update(self._table())
        elif not self._quiet and time.monotonic() - self._shown >= PLAIN_EVERY_S:
            self._shown = time.monotonic()
            for line in self._lines.values():
                if line.ended.total() != line.told:
                    line.told = line.ended.total()
                    print(" ".join(_cells(line)), file=sys.stderr, flush=True)

    def end(self, state: Literal["ended", "stopped"] = "ended", why: str | None = None) -> None:
        """Leave the last state on the screen and on the page."""
        if self._live is not None:
            self._live.update(self._table())
            self._live.stop()
            self._live = None
        if self._page is not None:
            self._in_flight = self._waiting = self._stalled = None
            self._page.close(self._status(state, why))
            self._page = None

    def _status(self, state: Literal["running", "ended", "stopped"], why: str | None = None) -> Status:
        assert self._page is not None, "there is no page to write"
        now = time.monotonic()
        stages = tuple(self._stage_status(line, now) for line in self._lines.values())
        updated = datetime.now(UTC).isoformat(timespec="seconds")
        page = self._page
        return Status(page.epoch, self._engine, page.started_at, updated, state, why, stages, self._stalled)

    def _stage_status(self, line: _Line, now: float) -> StageStatus:
        at, ended = (line.track, line.stage), line.ended
        return StageStatus(
            track=line.track,
            stage=line.stage,
            to_do=max(0, line.todo - ended.total()),
            done=ended[ledger.DONE],
            rejected=ended[ledger.REJECTED],
            quarantined=ended[ledger.QUARANTINED],
            in_flight=None if self._in_flight is None else self._in_flight.get(at, 0),
            waiting=None if self._waiting is None else self._waiting.get(at, 0),
            seconds_median=statistics.median(line.seconds) if line.seconds else None,
            per_s=line.per_s(now),
        )

    def _table(self) -> Table:
        table = Table("stage", "", "rate", "left", "rejected", "quarantined", box=None, pad_edge=False)
        for line in (line for line in self._lines.values() if line.todo):
            name, done, rate, left, rejected, quarantined = _cells(line)
            table.add_row(name, done, rate, left, rejected, f"[red]{quarantined}[/]" if quarantined[0] != "0" else "0")
        return table


class _PageWriter:
    """Writes the newest page there is, in a thread: a slow store must not keep the run waiting for a mere page."""

    def __init__(self, root: str) -> None:
        self._store = Store(root)
        self._onlooker = Onlooker(root)
        self.epoch = self._onlooker.epoch()  # the caller holds the lease
        self.started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self._newest: Status | None = None
        self._handed_s = 0.0
        self._changed = threading.Event()
        self._thread = threading.Thread(target=self._write, name="status-page", daemon=True)
        self._thread.start()

    def due(self) -> bool:
        return time.monotonic() - self._handed_s >= PAGE_EVERY_S

    def hand(self, page: Status) -> None:
        self._newest, self._handed_s = page, time.monotonic()
        self._changed.set()

    def close(self, page: Status, patience_s: float = 10.0) -> None:
        self.hand(page)
        self._thread.join(patience_s)

    def _write(self) -> None:
        while True:
            self._changed.wait()
            self._changed.clear()
            page = self._newest
            assert page is not None, "the thread was woken without a page"
            with contextlib.suppress(OSError, UserError):  # what matters is in the ledger; the next page may succeed
                if page.state == "running" or self._onlooker.epoch() == self.epoch:  # else it is the next run's place
                    status.write(self._store, page)
            if page.state != "running":
                return


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
