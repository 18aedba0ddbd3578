"""A run on this machine: worker processes, one committer, and what happens when something dies.

The driver hands batches to workers, takes their results, and is the only writer of the ledger. A row that is done goes
straight on to its next stage. A worker that dies or hangs costs nothing but the batch it had: its rows are tried again
one by one, each written down before it starts, and the one that takes its worker down a second time is quarantined
with the worker's last words.
"""

import contextlib
import multiprocessing
import signal
import tempfile
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any

import pebble

from manifests import ledger
from manifests.errors import UserError
from manifests.lease import Lease
from manifests.ledger import Committer, Fold
from manifests.store import Store
from manifests.tables import Tables
from pipeline import worker
from pipeline.config import Run, StageSpec
from pipeline.feed import Walk, walks
from pipeline.plan import LONE_ATTEMPTS, TrackPlan, plan_run
from pipeline.progress import Progress
from pipeline.verify import find_damaged

DEATHS_OF_POISON = 2
REMAKES = 2  # an artifact that is found damaged more often than this in one run has a cause that remaking does not mend


class RunStopped(UserError):
    """The run ended early; the message says why and what to do. All that was finished is in the ledger."""

    exit_code = 1


@dataclass
class _Batch:
    walks: list[Walk]
    lone: bool = False  # a suspect, alone

    @property
    def spec(self) -> StageSpec:
        return self.walks[0].spec


@dataclass
class LocalRun:
    """One run, from plan to last commit."""

    run: Run
    tables: Tables
    committer: Committer
    lease: Lease
    plans: list[TrackPlan]
    folded: Fold
    progress: Progress
    _queues: dict[tuple[str, int], deque[Walk]] = field(default_factory=dict)
    _suspects: deque[Walk] = field(default_factory=deque)
    _flying: dict[Future[Any], _Batch] = field(default_factory=dict)
    _deaths: Counter[str] = field(default_factory=Counter)
    _remakes: Counter[str] = field(default_factory=Counter)
    _row_of_errors: tuple[str, str, int] = ("", "", 0)
    _words: str = ""

    def execute(self) -> None:
        """Work until every row has ended or waits for a person."""
        config = self.run.config
        with tempfile.TemporaryDirectory(prefix="bodydouble-words-") as self._words:
            pool = pebble.ProcessPool(
                max_workers=config.workers,
                context=multiprocessing.get_context("spawn"),  # Lance and decoders are not fork-safe
                initializer=worker.begin,
                initargs=(self.tables.root, self._words),
            )
            try:
                self._loop(pool)
            finally:
                pool.stop()
                pool.join()
                with contextlib.suppress(OSError):  # what cannot be written now was never promised
                    self.committer.flush()

    def _loop(self, pool: pebble.ProcessPool) -> None:
        workers = self.run.config.workers
        feed = self._feed()
        in_progress = sum(4 * workers * max((s.config.batch_size for s in p.specs), default=1) for p in self.plans)
        fed_up = False
        while True:
            while not fed_up and self._waiting() < in_progress:
                walk = next(feed, None)
                fed_up = walk is None
                if walk is not None:
                    self._admit(walk)
            while len(self._flying) < 2 * workers and (batch := self._next_batch(fed_up)) is not None:
                self._submit(pool, batch)
            if not self._flying:
                return
            ended, _ = wait(self._flying, timeout=self.run.config.commit_every_s, return_when=FIRST_COMPLETED)
            for future in ended:
                self._end(future, self._flying.pop(future))
            self.lease.check()
            if self.committer.due():
                self.committer.flush()
            self.progress.show()

    def _feed(self) -> Iterator[Walk]:
        for plan in self.plans:
            yield from walks(plan, self.tables, self.folded)

    def _waiting(self) -> int:
        return sum(map(len, self._queues.values())) + len(self._suspects)

    def _admit(self, walk: Walk) -> None:
        """Queue a row for its next stage; a row whose lone attempts ended everything before is poison."""
        attempts = self.folded.attempts.get(walk.key, 0)
        if attempts >= LONE_ATTEMPTS:
            words = f"{attempts} runs ended while this row was alone in a worker; nothing of their last words is left"
            self._record(walk, worker.Result(ledger.QUARANTINED, "crashed", words))
        elif attempts:
            self._suspects.append(walk)
        else:
            self._queue(walk).append(walk)

    def _queue(self, walk: Walk) -> deque[Walk]:
        return self._queues.setdefault((walk.plan.track, walk.stage), deque())

    def _next_batch(self, fed_up: bool) -> _Batch | None:
        """Suspects first; then the stage furthest along that has a whole batch; then, if nothing is to come, any."""
        if self._suspects:
            return _Batch([self._suspects.popleft()], lone=True)
        waiting = [queue for _, queue in sorted(self._queues.items(), key=lambda entry: -entry[0][1]) if queue]
        idle = fed_up and len(self._flying) < self.run.config.workers
        for queue in waiting:
            size = queue[0].spec.config.batch_size
            if len(queue) >= size or idle or not self._flying:
                return _Batch([queue.popleft() for _ in range(min(size, len(queue)))])
        return None

    def _submit(self, pool: pebble.ProcessPool, batch: _Batch) -> None:
        spec = batch.spec
        if batch.lone:
            walk = batch.walks[0]
            self.committer.add(walk.outcome(ledger.STARTED))
            self.committer.flush()
        items = tuple(worker.Item(walk.id, walk.key, walk.inputs()) for walk in batch.walks)
        job = worker.Job(spec.name, spec.use, spec.config.model_dump_json(), items)
        self._flying[pool.schedule(worker.work, args=(job,))] = batch

    def _end(self, future: Future[Any], batch: _Batch) -> None:
        error = future.exception()
        if error is None:
            for walk, result in zip(batch.walks, future.result(), strict=True):
                self._record(walk, result)
        elif isinstance(error, pebble.ProcessExpired):
            self._worker_died(error, batch)
        elif isinstance(error, worker.NoSpace):
            raise RunStopped(
                f"no space left under {self.tables.root}; what was finished is safe, and nothing half-written is read: "
                "free some space and run the same command again"
            )
        elif isinstance(error, worker.CannotStart):
            raise RunStopped(str(error))
        else:
            raise error

    def _worker_died(self, error: pebble.ProcessExpired, batch: _Batch) -> None:
        hung = error.exitcode == -signal.SIGALRM
        reason = "timeout" if hung else "crashed"
        what = (
            f"took longer than timeout_s = {batch.spec.config.timeout_s:g}" if hung else f"exit code {error.exitcode}"
        )
        words = worker.last_words(self._words, error.pid)
        detail = f"worker {error.pid} died: {what}" + (f"; its last words:\n{words}" if words else "; it said nothing")
        for walk in batch.walks:
            self._deaths[walk.key] += 1
            if len(batch.walks) > 1:
                self._suspects.append(walk)  # who of them it was is not known yet: none is charged
            elif self._deaths[walk.key] < DEATHS_OF_POISON:
                self.committer.add(walk.outcome(ledger.CRASHED, reason=reason, detail=detail))
                self._suspects.append(walk)
            else:
                self._record(walk, worker.Result(ledger.QUARANTINED, reason, detail))

    def _record(self, walk: Walk, result: worker.Result) -> None:
        """Write down what became of a row, and send it on."""
        if result.state == ledger.LOST:
            self._remake(walk, result)
            return
        self.committer.add(walk.outcome(**vars(result)))
        self.progress.count(walk.plan.track, walk.spec.name, result)
        if result.state == ledger.DONE:
            if walk.advance(result.made or {}, result.artifacts):
                self._admit(walk)
            self._row_of_errors = ("", "", 0)
        elif result.state == ledger.QUARANTINED:
            self._count_error(walk.spec.name, result.reason or "", result.detail or "")

    def _count_error(self, stage: str, reason: str, detail: str) -> None:
        last_stage, last_reason, count = self._row_of_errors
        count = count + 1 if (last_stage, last_reason) == (stage, reason) else 1
        self._row_of_errors = (stage, reason, count)
        if count >= self.run.config.stop_after_errors:
            last_line = detail.strip().splitlines()[-1] if detail.strip() else "no detail"
            raise RunStopped(
                f"stage {stage} failed {count} times in a row with {reason} ({last_line}); "
                f"mend the cause, then `bodydouble requeue RUN.yaml --where \"reason = '{reason}'\"` and run again"
            )

    def _remake(self, walk: Walk, result: worker.Result) -> None:
        """An input of this row is missing or damaged: write that down, and send the row back to where it is made."""
        column = result.reason or ""
        walk.back_to_maker_of(column)
        self._remakes[walk.key] += 1
        if self._remakes[walk.key] > REMAKES:
            self._record(walk, worker.Result(ledger.QUARANTINED, "artifact_damaged", result.detail))
            return
        self.committer.add(walk.outcome(ledger.LOST, reason=column, detail=result.detail))
        self._queue(walk).append(walk)


def execute(
    run: Run, limit: int | None, until: str | None, progress: Progress, verify: bool = False
) -> list[TrackPlan]:
    """Run what is left to do, under the lease of the root; returns the plan that was worked off.

    Raises:
        LeaseTaken: another driver lives.
        RunStopped: the disk is full, a stage cannot start, or one class of error came too often in a row.
    """
    tables = Tables(run.config.root)
    with Lease.take(run.config.root, "bodydouble run") as lease:
        Store(run.config.root).remove_leftovers()
        committer = Committer(tables, lease.epoch, run.config.commit_every, run.config.commit_every_s)
        if verify:
            find_damaged(tables, committer)
        folded = ledger.fold(tables)
        plans = plan_run(run, tables, folded, limit, until)
        progress.begin(plans)
        LocalRun(run, tables, committer, lease, plans, folded, progress).execute()
    return plans
